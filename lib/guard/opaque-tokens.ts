import { OidcError, checkWith } from '../errors.ts'
import { createBoundedMap } from '../util/bounded-map.ts'
import { sha256 } from '../util/crypto.ts'
import { createLimit } from '../util/limit.ts'
import { now } from '../util/time.ts'
import { createTurns } from '../util/turns.ts'
import type { FastifyRequest } from 'fastify'
import type { JWTPayload } from 'jose'
import type { Check } from '../errors.ts'
import type { BearerSettings } from '../options/bearer.ts'
import type { Provider } from '../provider/provider.ts'
import type { Providers } from '../provider/providers.ts'
import type { ProviderNames } from './token-issuers.ts'
import type { TokenClaims } from './verified-token.ts'

/** Access tokens that are not JWTs: the provider introspects them (RFC 7662). */
export interface OpaqueTokens {
  /** Throws FST_OIDC_TOKEN, and an OidcError when the provider cannot be asked. */
  verify: (token: string, request: FastifyRequest, names: ProviderNames) => Promise<TokenClaims>
  /** Forgets the answers about a user who has logged out; without a `sub`, all answers. */
  forget: (sub: string | undefined) => void
}

/** What a provider says of a token. */
interface Answer {
  key: string
  payload: Promise<JWTPayload>
  /** `undefined` until the provider has named a user. */
  sub?: string | undefined
}

const MAX_ANSWERS = 10_000
/** How many tokens that were active are remembered, and for how long, in seconds. */
const MAX_ACTIVE = 10_000
const ACTIVE_FOR = 3600
/**
 * How often the provider is asked about tokens that were not active before: any client can send them. Those that were
 * have no limit, so that a flood does not keep them out.
 */
const UNKNOWN = { burst: 500, perSecond: 100 }
const TURNS = { running: 50, waiting: 500, patience: 1 }
/** The longest time for which the provider is left alone, in seconds, whatever its Retry-After says. */
const MAX_REST = 60

const check: Check = checkWith('FST_OIDC_TOKEN')

export function createOpaqueTokens (settings: BearerSettings, providers: Providers): OpaqueTokens {
  const answers = createBoundedMap<Answer>(MAX_ANSWERS)
  const active = createBoundedMap<true>(MAX_ACTIVE)
  const limit = createLimit(UNKNOWN)
  const inTurn = createTurns({ ...TURNS, refuse: flooded })
  let rest: { until: number, of: Provider } | undefined

  async function providerFor (request: FastifyRequest, names: ProviderNames): Promise<Provider | null> {
    const name = settings.introspection
    return name === undefined || names?.includes(name) === false ? null : await providers.find(request, name)
  }

  /** Asks within the limits. */
  async function ask (key: string, provider: Provider, token: string): Promise<JWTPayload> {
    checkRest(provider)
    const asking = async (): Promise<JWTPayload> => await provider.introspect(token, settings)
    if (active.get(key) !== undefined) return await asking()
    if (!limit.take()) throw flooded()
    return await inTurn(async () => {
      checkRest(provider)
      return await asking()
    })
  }

  /** A provider that has answered with 429 is left alone for as long as it says. */
  function checkRest (provider: Provider): void {
    if (rest === undefined || rest.of !== provider) return
    const seconds = rest.until - now()
    if (seconds > 0 && seconds <= MAX_REST) throw resting(seconds)
  }

  function learnFrom (answer: Answer, provider: Provider): void {
    const { key, payload } = answer
    payload.then(
      ({ sub, exp = Infinity }) => {
        answer.sub = sub
        active.set(key, true, Math.min(exp, now() + ACTIVE_FOR))
      },
      ({ statusCode, kind, retryAfter = 0 }: OidcError) => {
        if (statusCode >= 500) answers.delete(key)
        else active.delete(key)
        if (kind === 'busy') rest = { until: now() + Math.min(retryAfter, MAX_REST), of: provider }
      }
    )
  }

  /** Keeps the answer for a while, unless the provider is not available. */
  function introspect (key: string, provider: Provider, token: string): Answer {
    const answer: Answer = { key, payload: ask(key, provider, token) }
    answers.set(key, answer, now() + settings.introspectionMaxAge)
    learnFrom(answer, provider)
    return answer
  }

  return {
    // Those about other users stay: else each logout would have all tokens introspected again, and a provider that
    // answers 429 would keep all of them out.
    forget (sub) {
      for (const { key, sub: user = sub } of answers.values()) {
        if (sub === undefined || user === sub) answers.delete(key)
      }
    },

    async verify (token, request, names) {
      const provider = await providerFor(request, names)
      check(provider !== null, 'it is not a JWT')
      const key = sha256(`${provider.id} ${token}`, 'base64')
      const { payload: given } = answers.get(key) ?? introspect(key, provider, token)
      const payload = await given
      check(typeof payload.exp !== 'number' || payload.exp > now(), 'it has expired')
      return { provider, keys: undefined, payload, isIntrospected: true }
    }
  }
}

function flooded (): OidcError {
  return new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', {
    detail: 'the provider would have to introspect too many tokens that were not seen before',
    kind: 'flood',
    level: 'info',
    retryAfter: 1
  })
}

function resting (seconds: number): OidcError {
  return new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', {
    detail: 'the provider has answered an introspection with 429, and is left alone for a while',
    kind: 'flood',
    level: 'info',
    retryAfter: seconds
  })
}
