import { OidcError } from './errors.ts'
import { absent } from './util/absent.ts'
import type { Counter, Meter, Span, Tracer } from '@opentelemetry/api'
import type { Settings } from './options/settings.ts'

/** Spans and counters. Their labels are few and bounded, and contain no personal data. */
export interface Telemetry {
  /** Runs `work` in a span. If it throws, the span gets the code of the error. */
  span: <T>(name: string, work: () => Promise<T>) => Promise<T>
  /** Runs a request to the provider's token endpoint in a span, and counts its outcome. */
  exchangeTokens: <T>(request: () => Promise<T>) => Promise<T>
  login: () => void
  refused: (code: string) => void
  sessionEnded: (reason: string) => void
  granted: (grantType: string, outcome: Outcome) => void
}

type Outcome = 'success' | 'failure'

type Api = typeof import('@opentelemetry/api')

const silent: Telemetry = {
  span: async (_name, work) => await work(),
  exchangeTokens: async (request) => await request(),
  login () {},
  refused () {},
  sessionEnded () {},
  granted () {}
}

/** `load` imports the optional peer dependency @opentelemetry/api. Without it, nothing is measured. */
export async function createTelemetry (
  settings: Settings['telemetry'],
  load: () => Promise<Api | undefined> = async () => await import('@opentelemetry/api').catch(absent)
): Promise<Telemetry> {
  if (settings === false) return silent
  const api = await load()
  if (api === undefined) return silent
  const tracer = settings?.tracer as Tracer | undefined ?? api.trace.getTracer('fastify-oidc')
  const meter = settings?.meter as Meter | undefined ?? api.metrics.getMeter('fastify-oidc')
  const span = createSpans(api, tracer)
  const { tokenExchange, ...counters } = createCounters(meter)
  return { span, exchangeTokens: createExchangeTokens(span, tokenExchange), ...counters }
}

function createSpans (api: Api, tracer: Tracer): Telemetry['span'] {
  return async (name, work) => await tracer.startActiveSpan(name, async (span) => {
    const result = await work().catch((error: unknown) => fail(api, span, error))
    span.end()
    return result
  })
}

// The message of an error may contain data that the provider sent, so the span gets only the code.
function fail (api: Api, span: Span, error: unknown): never {
  const code = error instanceof OidcError ? error.code : 'FST_OIDC_UNEXPECTED'
  span.setAttribute('error.type', code)
  span.setStatus({ code: api.SpanStatusCode.ERROR, message: code })
  span.end()
  throw error
}

function createExchangeTokens (
  span: Telemetry['span'],
  count: Counters['tokenExchange']
): Telemetry['exchangeTokens'] {
  return async (request) => await span('oidc.token_exchange', async () => {
    try {
      const tokenSet = await request()
      count('success')
      return tokenSet
    } catch (error) {
      count('failure')
      throw error
    }
  })
}

interface Counters extends Omit<Telemetry, 'span' | 'exchangeTokens'> {
  tokenExchange: (outcome: Outcome) => void
}

function createCounters (meter: Meter): Counters {
  const counter = (name: string, description: string): Counter => meter.createCounter(name, { description })
  const exchanges = counter('oauth_token_exchange_requests_total', 'Token requests to the provider, by outcome')
  const logins = counter('oidc_logins_total', 'Completed logins')
  const refusals = counter('oidc_refusals_total', 'Requests that were refused, by error code')
  const ended = counter('oidc_sessions_ended_total', 'Sessions that ended before their time, by reason')
  const grants = counter(
    'oidc_grants_total',
    'Requests to the token endpoint of this application, by grant and outcome'
  )
  return {
    tokenExchange: (outcome) => exchanges.add(1, { outcome }),
    login: () => logins.add(1),
    refused: (code) => refusals.add(1, { code }),
    sessionEnded: (reason) => ended.add(1, { reason }),
    granted: (grant, outcome) => grants.add(1, { grant, outcome })
  }
}
