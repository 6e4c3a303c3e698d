import type { FastifyRequest } from 'fastify'
import type { Provider } from '../provider/provider.ts'
import type { Providers } from '../provider/providers.ts'
import type { TokenIssuer } from '../provider/token-issuer.ts'

/** The names of the providers that a guard accepts; `undefined`: all. */
export type ProviderNames = readonly string[] | undefined

/**
 * The issuers whose access tokens are accepted: a closed set. The `iss` of a token only selects one of them,
 * and its signature is then verified with that issuer's keys.
 */
export interface TokenIssuers {
  find: (request: FastifyRequest, iss: string, names: ProviderNames) => Promise<TokenIssuer | null>
  /** Whether an issuer is still known: a tenant may have been removed, or replaced by another one with its name. */
  isKnown: (issuer: TokenIssuer) => boolean
  /** Whether tokens with this `iss` are this application's own. */
  isOwn: (iss: string) => boolean
}

export interface TokenIssuersParts {
  providers: Providers
  /** The broker of this application. */
  own: readonly TokenIssuer[]
  /** The brokers of other applications that it trusts. */
  peers: readonly TokenIssuer[]
}

/** `ofProviders`: whether tokens of the providers are accepted, or only those of the broker and its peers. */
export function createTokenIssuers (ofProviders: boolean, { providers, own, peers }: TokenIssuersParts): TokenIssuers {
  const find: TokenIssuers['find'] = async (request, iss, names) => {
    // A peer's token does not name a provider; a token of the broker does.
    const others = names === undefined ? [...own, ...peers] : own
    const issuer = others.find(({ settings }) => settings.issuer === iss)
    return issuer ?? (ofProviders ? await findProvider(request, iss, names) : null)
  }

  async function findProvider (request: FastifyRequest, iss: string, names: ProviderNames): Promise<Provider | null> {
    if (names === undefined) return await providers.ofIssuer(request, iss)
    const named = await Promise.all(names.map(async (name) => await providers.find(request, name)))
    return named.find((provider) => provider?.settings.issuer === iss) ?? null
  }

  return {
    find,
    isKnown: (issuer) => providers.known(issuer.name) === issuer || own.includes(issuer) || peers.includes(issuer),
    isOwn: (iss) => own.some(({ settings }) => settings.issuer === iss)
  }
}
