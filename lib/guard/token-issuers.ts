import { checkWith } from '../errors.ts'
import { ownClients } from '../options/providers.ts'
import type { FastifyRequest } from 'fastify'
import type { Check } from '../errors.ts'
import type { Provider } from '../provider/provider.ts'
import type { Providers } from '../provider/providers.ts'
import type { TokenIssuer } from '../provider/token-issuer.ts'

/** The names of the providers that a guard accepts; `undefined`: all. */
export type ProviderNames = readonly string[] | undefined

/** What a token says about its origin, not verified. */
export interface TokenOrigin {
  iss: string
  clientId: string | undefined
  /** Whether its audience is this API. */
  isForUs: boolean
}

/**
 * The issuers whose access tokens are accepted: a closed set. The `iss` of a token, and its client where several
 * providers have one issuer, only select one of them. Its signature is then verified with that issuer's keys.
 */
export interface TokenIssuers {
  /** Throws FST_OIDC_TOKEN when the token is of no issuer, and an OidcError when a provider cannot be asked. */
  find: (request: FastifyRequest, origin: TokenOrigin, names: ProviderNames) => Promise<TokenIssuer>
  /** The same for the providers only. */
  findProvider: (request: FastifyRequest, origin: TokenOrigin, names?: ProviderNames) => Promise<Provider>
  /** Whether `find` would still return this issuer: providers come and go. `revision`: that of the providers then. */
  isKnown: (issuer: TokenIssuer, origin: TokenOrigin, revision: number) => boolean
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

const check: Check = checkWith('FST_OIDC_TOKEN')

/** `ofProviders`: whether tokens of the providers are accepted, or only those of the broker and its peers. */
export function createTokenIssuers (ofProviders: boolean, { providers, own, peers }: TokenIssuersParts): TokenIssuers {
  const find: TokenIssuers['find'] = async (request, origin, names) => {
    // A peer's token does not name a provider; a token of the broker does.
    const others = names === undefined ? [...own, ...peers] : own
    const issuer = others.find(({ settings }) => settings.issuer === origin.iss)
    if (issuer !== undefined) return issuer
    check(ofProviders, 'tokens of the providers are accepted only with the option "bearer"')
    return await findProvider(request, origin, names)
  }

  const findProvider: TokenIssuers['findProvider'] = async (request, origin, names) => {
    const named = await Promise.all((names ?? []).map(async (name) => await providers.find(request, name)))
    if (origin.isForUs && candidatesFor(origin.iss).length === 0) await learnNames(origin.iss, named)
    const chosen = choose(origin)
    check(names?.includes(chosen.name) !== false, 'it is from another provider')
    const current = await providers.find(request, chosen.name)
    const isCurrent = current !== null && (current === chosen || current === choose(origin))
    check(isCurrent, 'its provider was removed or has changed')
    return current
  }

  /**
   * A provider's metadata may give it another name in its access tokens. Tenants are not asked all at once. A token for
   * another audience is refused without asking: while the provider is away, that must not be a 503.
   */
  async function learnNames (iss: string, named: Array<Provider | null>): Promise<void> {
    const asked = [...providers.choices, ...named].map(async (provider) => {
      if (provider?.settings.accessTokenIssuer === undefined) await provider?.discover()
    })
    const failure = (await Promise.allSettled(asked)).find(({ status }) => status === 'rejected')
    if (failure?.status === 'rejected' && candidatesFor(iss).length === 0) throw failure.reason
  }

  function candidatesFor (iss: string): Provider[] {
    const all = providers.all()
    const ofIssuer = all.filter(({ settings }) => settings.issuer === iss)
    return ofIssuer.length > 0 ? ofIssuer : all.filter((provider) => provider.accessTokenIssuer() === iss)
  }

  function choose ({ iss, clientId = '' }: TokenOrigin): Provider {
    const candidates = candidatesFor(iss)
    const [first] = candidates
    check(first !== undefined, `its issuer ${iss.slice(0, 200)} is not accepted here`)
    check(!isTaken(iss, first), `its issuer ${iss.slice(0, 200)} is the name of several`)
    const [chosen, ...others] = candidates.filter(({ settings }) => {
      const mayBeAny = candidates.length === 1 && settings.clientIds === undefined
      return mayBeAny || ownClients(settings).includes(clientId)
    })
    const client = `its client ${clientId.slice(0, 200)}`
    check(chosen !== undefined, `${client} belongs to no provider with its issuer: "clientIds" of one may name it`)
    check(others.length === 0, `${client} belongs to several providers with its issuer: set "clientIds" of each`)
    return chosen
  }

  /** Whether a provider's name in its access tokens, where it is not its issuer, is also the name of another one. */
  function isTaken (iss: string, { settings: { issuer } }: TokenIssuer): boolean {
    if (iss === issuer) return false
    const others = providers.all().filter(({ settings }) => settings.issuer !== issuer)
    return [...own, ...peers].some(({ settings }) => settings.issuer === iss) ||
      others.some((other) => other.accessTokenIssuer() === iss)
  }

  return {
    find,
    findProvider,

    isKnown (issuer, origin, revision) {
      if (own.includes(issuer) || peers.includes(issuer)) return true
      if (providers.known(issuer.name) !== issuer || providers.revision() !== revision) return false
      return origin.iss === issuer.settings.issuer || !isTaken(origin.iss, issuer)
    },

    isOwn: (iss) => own.some(({ settings }) => settings.issuer === iss)
  }
}
