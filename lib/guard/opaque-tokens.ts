import { checkWith } from '../errors.ts'
import { createBoundedMap } from '../util/bounded-map.ts'
import { sha256 } from '../util/crypto.ts'
import { now } from '../util/time.ts'
import type { FastifyRequest } from 'fastify'
import type { JWTPayload } from 'jose'
import type { Check, OidcError } from '../errors.ts'
import type { BearerSettings } from '../options/bearer.ts'
import type { Provider } from '../provider/provider.ts'
import type { Providers } from '../provider/providers.ts'
import type { ProviderNames } from './token-issuers.ts'
import type { TokenClaims } from './verified-token.ts'

/** Access tokens that are not JWTs: the provider introspects them (RFC 7662). */
export interface OpaqueTokens {
  /** Throws FST_OIDC_TOKEN, and an OidcError when the provider cannot be asked. */
  verify: (token: string, request: FastifyRequest, names: ProviderNames) => Promise<TokenClaims>
  /** Forgets all answers of providers. */
  clear: () => void
}

const MAX_ANSWERS = 10_000

const check: Check = checkWith('FST_OIDC_TOKEN')

export function createOpaqueTokens (settings: BearerSettings, providers: Providers): OpaqueTokens {
  const answers = createBoundedMap<Promise<JWTPayload>>(MAX_ANSWERS)

  async function providerFor (request: FastifyRequest, names: ProviderNames): Promise<Provider | null> {
    const name = settings.introspection
    return name === undefined || names?.includes(name) === false ? null : await providers.find(request, name)
  }

  /** Keeps the answer for a while, unless the provider is not available. */
  function introspect (key: string, provider: Provider, token: string): Promise<JWTPayload> {
    const answer = provider.introspect(token, settings)
    answers.set(key, answer, now() + settings.introspectionMaxAge)
    answer.catch((error: OidcError) => {
      if (error.statusCode >= 500) answers.delete(key)
    })
    return answer
  }

  return {
    clear: answers.clear,

    async verify (token, request, names) {
      const provider = await providerFor(request, names)
      check(provider !== null, 'it is not a JWT')
      const key = sha256(`${provider.id} ${token}`, 'base64')
      const payload = await (answers.get(key) ?? introspect(key, provider, token))
      check(typeof payload.exp !== 'number' || payload.exp > now(), 'it has expired')
      return { provider, keys: undefined, payload, isIntrospected: true }
    }
  }
}
