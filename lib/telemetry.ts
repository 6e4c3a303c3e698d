import { OidcError } from './errors.ts'
import { absent } from './util/absent.ts'
import type { Attributes, Histogram, Meter, ObservableResult, Span, Tracer } from '@opentelemetry/api'
import type { Settings } from './options/settings.ts'

/**
 * Spans and metrics, by the semantic conventions of OpenTelemetry. Their attributes contain no personal data, and those
 * of metrics have few values.
 */
export interface Telemetry extends Measures {
  /** Runs `work` in a span. If it throws, the span gets the code of the error. */
  span: <T>(name: string, attributes: SpanAttributes, work: () => Promise<T>) => Promise<T>
  /** Runs a request to the token endpoint of a provider in a span, and counts its outcome. */
  exchangeTokens: <T>(provider: string, request: () => Promise<T>) => Promise<T>
  /** Runs a request to the token endpoint of this application in a span, and counts its outcome. */
  grant: <T>(grantType: string, handle: () => Promise<T>) => Promise<T>
  login: (provider: string) => void
  refused: (code: string) => void
  sessionEnded: (provider: string, reason: string) => void
}

/** What costs nothing when no metrics are collected. */
interface Measures {
  /** Measures each call to the store. `undefined`: nothing is to be measured. */
  storeCall: MeasureCall | undefined
  /** Makes what measures each request to a provider, or to an issuer without a name. */
  requestsTo: ((provider?: string) => MeasureRequest) | undefined
  /** Tells how old keys are, whenever metrics are collected. Returns a function that ends it. */
  watchKeys: (ages: KeyAges) => () => void
}

export type SpanAttributes = {
  'oidc.provider'?: string | undefined
  'oidc.grant_type'?: string
}

/** Runs a call, and records how long it takes and whether it fails. */
export type MeasureCall = <T>(operation: string, call: () => Promise<T>) => Promise<T>

/** The same for a request to an endpoint, by its name in the metadata. A status of 400 or more is a failure as well. */
export type MeasureRequest = (endpoint: string | undefined, request: () => Promise<Response>) => Promise<Response>

/** In seconds. `undefined`: there are no keys yet. */
export interface KeyAges {
  providers: () => ReadonlyArray<readonly [provider: string, age: number | undefined]>
  signing: () => number | undefined
}

/** What tells a failure from a success, which has nothing. */
type Failure = { 'error.type': string } | undefined
type Report = (failure: Failure) => void
/** The attribute of metrics that names a provider. */
type ProviderAttribute = (provider: string | undefined) => Attributes

type Api = typeof import('@opentelemetry/api')

const unmeasured: Measures = { storeCall: undefined, requestsTo: undefined, watchKeys: () => () => {} }

const silent: Telemetry = {
  span: async (_name, _attributes, work) => await work(),
  exchangeTokens: async (_provider, request) => await request(),
  grant: async (_grantType, handle) => await handle(),
  login () {},
  refused () {},
  sessionEnded () {},
  ...unmeasured
}

/** `load` imports the optional peer dependency @opentelemetry/api. Without it, nothing is measured. */
export async function createTelemetry (
  { telemetry: settings, resolveProvider }: Pick<Settings, 'telemetry' | 'resolveProvider'>,
  load: () => Promise<Api | undefined> = async () => await import('@opentelemetry/api').catch(absent)
): Promise<Telemetry> {
  if (settings === false) return silent
  const api = await load()
  if (api === undefined) return silent
  const tracer = settings?.tracer as Tracer | undefined ?? api.trace.getTracer('fastify-oidc')
  const meter = settings?.meter as Meter | undefined ?? api.metrics.getMeter('fastify-oidc')
  // Each combination of attributes is a time series: one for each tenant would have no bound.
  const namesProviders = resolveProvider === undefined
  const of: ProviderAttribute = (name) => namesProviders && name !== undefined ? { 'oidc.provider': name } : {}
  return {
    ...createSpans(createSpan(api, tracer), createCounters(meter, of)),
    ...(canMeasure(api, meter) ? createMeasures(meter, of) : unmeasured)
  }
}

function createSpans (
  span: Telemetry['span'],
  { exchanged, granted, ...counters }: Counters
): Omit<Telemetry, keyof Measures> {
  return {
    span,
    exchangeTokens: async (provider, request) =>
      await span('oidc.token_exchange', { 'oidc.provider': provider }, async () =>
        await reportOutcome((failure) => exchanged(provider, failure), request)),
    grant: async (grantType, handle) =>
      await span('oidc.grant', { 'oidc.grant_type': grantType }, async () =>
        await reportOutcome((failure) => granted(grantType, failure), handle)),
    ...counters
  }
}

/** The spans of requests to a provider. */
const OF_CLIENT: ReadonlySet<string> = new Set(['oidc.token_exchange', 'oidc.userinfo'])

function createSpan (api: Api, tracer: Tracer): Telemetry['span'] {
  const { CLIENT, INTERNAL } = api.SpanKind
  return async (name, attributes, work) => {
    const kind = OF_CLIENT.has(name) ? CLIENT : INTERNAL
    return await tracer.startActiveSpan(name, { kind, attributes }, async (span) => {
      const result = await work().catch((error: unknown) => fail(api, span, error))
      span.end()
      return result
    })
  }
}

// The message of an error may contain data that the provider sent, so the span gets only the code.
function fail (api: Api, span: Span, error: unknown): never {
  const type = typeOf(error)
  span.setAttribute('error.type', type)
  span.setStatus({ code: api.SpanStatusCode.ERROR, message: type })
  span.end()
  throw error
}

function typeOf (error: unknown): string {
  return error instanceof OidcError ? error.code : 'FST_OIDC_UNEXPECTED'
}

async function reportOutcome<T> (report: Report, work: () => Promise<T>): Promise<T> {
  try {
    const result = await work()
    report(undefined)
    return result
  } catch (error) {
    report({ 'error.type': typeOf(error) })
    throw error
  }
}

interface Counters extends Pick<Telemetry, 'login' | 'refused' | 'sessionEnded'> {
  exchanged: (provider: string, failure: Failure) => void
  granted: (grantType: string, failure: Failure) => void
}

function createCounters (meter: Meter, of: ProviderAttribute): Counters {
  const exchanges = meter.createCounter('oauth_token_exchange_requests_total', {
    unit: '{request}', description: 'Requests to the token endpoint of a provider'
  })
  const logins = meter.createCounter('oidc.logins', { unit: '{login}', description: 'Completed logins' })
  const refusals = meter.createCounter('oidc.refusals', {
    unit: '{refusal}', description: 'Requests that were refused'
  })
  const ended = meter.createCounter('oidc.session.ended', {
    unit: '{session}', description: 'Sessions that ended before their time'
  })
  const grants = meter.createCounter('oidc.grants', {
    unit: '{grant}', description: 'Requests to the token endpoint of this application'
  })
  return {
    exchanged: (provider, failure) =>
      exchanges.add(1, { outcome: failure === undefined ? 'success' : 'failure', ...of(provider), ...failure }),
    login: (provider) => logins.add(1, of(provider)),
    refused: (code) => refusals.add(1, { 'error.type': code }),
    sessionEnded: (provider, reason) => ended.add(1, { 'oidc.session.end_reason': reason, ...of(provider) }),
    granted: (grantType, failure) => grants.add(1, { 'oidc.grant_type': grantType, ...failure })
  }
}

/** Whether metrics are collected. A meter that an application has made may only count. */
function canMeasure (api: Api, meter: Meter): boolean {
  return meter !== api.createNoopMeter() && 'createHistogram' in meter && 'createObservableGauge' in meter
}

/** The endpoints that the plugin calls, by their names in the metadata. */
const ENDPOINTS: ReadonlySet<string> = new Set([
  'metadata', 'jwks_uri', 'token_endpoint', 'userinfo_endpoint', 'introspection_endpoint', 'revocation_endpoint',
  'pushed_authorization_request_endpoint', 'device_authorization_endpoint'
])
/** In seconds: what the conventions advise for HTTP, and for databases. */
const REQUEST_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
const STORE_BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10]

function createMeasures (meter: Meter, of: ProviderAttribute): Measures {
  const requests = meter.createHistogram('oidc.client.request.duration', {
    unit: 's', description: 'Duration of requests to providers', advice: { explicitBucketBoundaries: REQUEST_BUCKETS }
  })
  const storeCalls = meter.createHistogram('oidc.store.operation.duration', {
    unit: 's', description: 'Duration of calls to the store', advice: { explicitBucketBoundaries: STORE_BUCKETS }
  })
  return {
    storeCall: createStoreCall(storeCalls),
    requestsTo: (provider) => async (endpoint = '', request) => {
      const attributes = { 'oidc.endpoint': ENDPOINTS.has(endpoint) ? endpoint : '_OTHER', ...of(provider) }
      const record = startTimer(requests, attributes)
      const response = await request().catch((error: unknown) => {
        record({ 'error.type': typeOf(error) })
        throw error
      })
      record(response.status < 400 ? undefined : { 'error.type': String(response.status) })
      return response
    },
    watchKeys: createWatchKeys(meter, of)
  }
}

/** How long the plugin waits for the store, in milliseconds. A call that takes longer has failed. */
const STORE_TIMEOUT = 4000
const STORE_FAILURE: Failure = { 'error.type': 'FST_OIDC_STORE_UNAVAILABLE' }

function createStoreCall (storeCalls: Histogram): MeasureCall {
  return async (operation, call) => {
    const record = startTimer(storeCalls, { 'oidc.store.operation': operation })
    const late = setTimeout(record, STORE_TIMEOUT, STORE_FAILURE).unref()
    const report: Report = (failure) => record(failure && STORE_FAILURE)
    return await reportOutcome(report, call).finally(() => clearTimeout(late))
  }
}

/** Returns a function that records how long it took, once. */
function startTimer (histogram: Histogram, attributes: Attributes): Report {
  const start = performance.now()
  let isRecorded = false
  return (failure) => {
    if (!isRecorded) histogram.record((performance.now() - start) / 1000, { ...attributes, ...failure })
    isRecorded = true
  }
}

function createWatchKeys (meter: Meter, of: ProviderAttribute): Telemetry['watchKeys'] {
  const keySet = meter.createObservableGauge('oidc.key_set.age', {
    unit: 's', description: 'Time since the keys of a provider were fetched'
  })
  const signingKey = meter.createObservableGauge('oidc.signing_key.age', {
    unit: 's', description: 'Time since the key that signs access tokens began to sign'
  })
  return ({ providers, signing }) => {
    // Providers without a name of their own share one time series: the oldest keys count, so they come last.
    const observeKeySets = (result: ObservableResult): void => {
      const known = providers().filter((entry): entry is readonly [string, number] => entry[1] !== undefined)
      for (const [provider, age] of known.sort(([, a], [, b]) => a - b)) result.observe(age, of(provider))
    }
    const observeSigningKey = (result: ObservableResult): void => {
      const age = signing()
      if (age !== undefined) result.observe(age)
    }
    keySet.addCallback(observeKeySets)
    signingKey.addCallback(observeSigningKey)
    return () => {
      keySet.removeCallback(observeKeySets)
      signingKey.removeCallback(observeSigningKey)
    }
  }
}
