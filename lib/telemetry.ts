import { OidcError } from './errors.ts'
import { absent } from './util/absent.ts'
import type { Attributes, Meter, Span, Tracer } from '@opentelemetry/api'
import type { Settings } from './options/settings.ts'

/**
 * Spans and counters, by the semantic conventions of OpenTelemetry. Their attributes contain no personal data, and
 * those of counters have few values.
 */
export interface Telemetry {
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

export type SpanAttributes = {
  'oidc.provider'?: string | undefined
  'oidc.grant_type'?: string
}

/** What tells a failure from a success, for which there is nothing. */
type Failure = { 'error.type': string } | undefined

type Api = typeof import('@opentelemetry/api')

const silent: Telemetry = {
  span: async (_name, _attributes, work) => await work(),
  exchangeTokens: async (_provider, request) => await request(),
  grant: async (_grantType, handle) => await handle(),
  login () {},
  refused () {},
  sessionEnded () {}
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
  const span = createSpan(api, tracer)
  const { tokenExchange, grant, ...counters } = createCounters(meter, resolveProvider === undefined)
  return {
    span,
    exchangeTokens: async (provider, request) =>
      await span('oidc.token_exchange', { 'oidc.provider': provider }, async () =>
        await reportOutcome((failure) => tokenExchange(provider, failure), request)),
    grant: async (grantType, handle) =>
      await span('oidc.grant', { 'oidc.grant_type': grantType }, async () =>
        await reportOutcome((failure) => grant(grantType, failure), handle)),
    ...counters
  }
}

/** The spans of requests to a provider. */
const OF_CLIENT: ReadonlySet<string> = new Set(['oidc.token_exchange', 'oidc.userinfo'])

function createSpan (api: Api, tracer: Tracer): Telemetry['span'] {
  const { CLIENT, INTERNAL } = api.SpanKind
  return async (name, attributes, work) => {
    const options = { kind: OF_CLIENT.has(name) ? CLIENT : INTERNAL, attributes }
    return await tracer.startActiveSpan(name, options, async (span) => {
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

async function reportOutcome<T> (report: (failure: Failure) => void, work: () => Promise<T>): Promise<T> {
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
  tokenExchange: (provider: string, failure: Failure) => void
  grant: (grantType: string, failure: Failure) => void
}

/** `namesProviders`: whether the providers are those of the options, which are few. */
function createCounters (meter: Meter, namesProviders: boolean): Counters {
  // Each combination of attributes is a time series: a counter for each tenant would be without a bound.
  const of = (provider: string): Attributes => namesProviders ? { 'oidc.provider': provider } : {}
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
    tokenExchange: (provider, failure) =>
      exchanges.add(1, { outcome: failure === undefined ? 'success' : 'failure', ...of(provider), ...failure }),
    login: (provider) => logins.add(1, of(provider)),
    refused: (code) => refusals.add(1, { 'error.type': code }),
    sessionEnded: (provider, reason) => ended.add(1, { 'oidc.session.end_reason': reason, ...of(provider) }),
    grant: (grantType, failure) => grants.add(1, { 'oidc.grant_type': grantType, ...failure })
  }
}
