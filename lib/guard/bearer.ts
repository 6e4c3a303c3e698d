import { checkWith } from '../errors.ts'
import { isForAudience } from '../provider/access-token.ts'
import { clientOf } from '../provider/token-subject.ts'
import { now } from '../util/time.ts'
import { createTokenCache } from '../util/token-cache.ts'
import { plainTokenOf, presentsToken, tokenOf } from './authorization-header.ts'
import { createOpaqueTokens } from './opaque-tokens.ts'
import { createSenderConstraint } from './sender-constraint.ts'
import { createTokenIssuers } from './token-issuers.ts'
import { MAX_LIFETIME, providerNameOf, toKeptToken } from './verified-token.ts'
import type { FastifyRequest } from 'fastify'
import type { JWTPayload } from 'jose'
import type { Check } from '../errors.ts'
import type { BearerSettings } from '../options/bearer.ts'
import type { Provider } from '../provider/provider.ts'
import type { TokenIssuer } from '../provider/token-issuer.ts'
import type { Constraints } from './constraints.ts'
import type { DpopProofs } from './dpop.ts'
import type { ProviderNames, TokenIssuersParts, TokenOrigin } from './token-issuers.ts'
import type { KeptToken, TokenClaims, VerifiedToken } from './verified-token.ts'

/** The access tokens of requests. */
export interface Bearer {
  readonly settings: BearerSettings
  /** A DPoP nonce for the next proof, where DPoP is accepted. */
  dpopNonce: () => string | undefined
  /** Whether the request has an access token, valid or not. */
  isPresented: (request: FastifyRequest) => boolean
  /** The token of a request, if it was verified before and nothing must be checked again. */
  known: (request: FastifyRequest) => VerifiedToken | undefined
  /**
   * Throws FST_OIDC_AUTHORIZATION, FST_OIDC_TOKEN, FST_OIDC_DPOP, FST_OIDC_FORBIDDEN when the token is of neither a
   * user nor a client, and an OidcError when the issuer cannot be asked.
   */
  verify: (request: FastifyRequest, constraints: Pick<Constraints, 'providers'>) => Promise<VerifiedToken>
  /**
   * Verifies a provider's token that is not the credential of the request (RFC 8693, section 2.1).
   * Throws FST_OIDC_TOKEN, and FST_OIDC_FORBIDDEN when it is of neither a user nor a client.
   */
  verifySubject: (token: string, request: FastifyRequest) => Promise<VerifiedToken<Provider>>
  /** Makes tokens be verified again after a logout: JWTs, and opaque ones of this user, or all without a `sub`. */
  forget: (sub: string | undefined) => void
}

export interface BearerParts extends TokenIssuersParts {
  /** Where DPoP is accepted. */
  proofs: DpopProofs | undefined
}

/** A verified JWT, with what its issuer was found by. */
interface CachedToken extends KeptToken {
  origin: TokenOrigin
  revision: number
}

const MAX_KEPT = 10_000

const check: Check = checkWith('FST_OIDC_TOKEN')

export function createBearer (settings: BearerSettings, { proofs, ...parts }: BearerParts): Bearer {
  const { providers } = parts
  const checkSender = createSenderConstraint(settings, proofs)
  const issuers = createTokenIssuers(settings.ofProviders, parts)
  const opaqueTokens = createOpaqueTokens(settings, providers)
  const kept = createTokenCache<CachedToken>(MAX_KEPT)

  /** A token that was verified before, if its issuer is still known and still has the same keys. */
  function find (token: string, names?: ProviderNames): KeptToken | undefined {
    const cached = kept.get(token, qualifierOf(names))
    if (cached === undefined || cached.keys === undefined) return undefined
    const { provider, keys, origin, revision } = cached
    return keys === provider.keys() && issuers.isKnown(provider, origin, revision) ? cached : undefined
  }

  /** What a JWT says about its origin, not verified. `undefined` when the token is not a JWT. */
  function originOf (token: string): TokenOrigin | undefined {
    const [, payload, signature, ...others] = token.split('.')
    if (payload === undefined || signature === undefined || others.length > 0) return undefined
    try {
      const claims = Object(JSON.parse(Buffer.from(payload, 'base64url').toString())) as JWTPayload
      const iss = typeof claims.iss === 'string' ? claims.iss : ''
      return { iss, clientId: clientOf(claims), isForUs: isForAudience(claims, settings) }
    } catch {
      return undefined
    }
  }

  async function verifyAnew (token: string, request: FastifyRequest, names: ProviderNames): Promise<KeptToken> {
    const origin = originOf(token)
    const revision = providers.revision()
    const verified = origin === undefined
      ? await opaqueTokens.verify(token, request, names)
      : await verifyJwt(token, await issuers.find(request, origin, names))
    check(names?.includes(providerNameOf(verified)) !== false, 'it is from another provider')
    const found = toKept(verified)
    // The provider's answer to an introspection may change before the token expires.
    if (origin !== undefined) keep(token, { ...found, origin, revision }, names)
    return found
  }

  async function verifyJwt<I extends TokenIssuer> (token: string, provider: I): Promise<TokenClaims<I>> {
    // Reads the keys before the verification, because they may change while it runs.
    const keys = provider.keys()
    return { provider, keys, payload: await provider.verifyAccessToken(token, settings), isIntrospected: false }
  }

  function toKept<I extends TokenIssuer> (verified: TokenClaims<I>): KeptToken<I> {
    const { issuer } = verified.provider.settings
    const ofIssuer = providers.all().filter(({ settings }) => settings.issuer === issuer)
    const knownClients = ofIssuer.flatMap(({ settings: { clientId, clientIds = [] } }) => [clientId, ...clientIds])
    return toKeptToken(verified, { clients: settings.clients, knownClients })
  }

  function keep (token: string, found: CachedToken, names: ProviderNames): void {
    const expiresAt = Math.min(found.token.expiresAt, now() + MAX_LIFETIME)
    kept.add(token, found, { expiresAt, qualifier: qualifierOf(names) })
  }

  return {
    settings,
    dpopNonce: () => proofs?.nonce(),
    isPresented: presentsToken,

    known (request) {
      const token = plainTokenOf(request)
      const found = token === undefined ? undefined : find(token)
      if (found === undefined) return undefined
      const mustAsk = found.confirmation !== undefined || found.provider.isLive !== undefined || settings.dpopRequired
      return mustAsk ? undefined : found
    },

    async verify (request, { providers }) {
      const presented = tokenOf(request)
      const names = providers?.(request)
      const found = find(presented.token, names) ?? await verifyAnew(presented.token, request, names)
      check((await found.provider.isLive?.(found.claims)) !== false, 'it was revoked')
      await checkSender(request, presented, found.confirmation)
      return found
    },

    async verifySubject (token, request) {
      const origin = originOf(token)
      // Otherwise a client could exchange a token of this application again and again.
      check(origin !== undefined && !issuers.isOwn(origin.iss), 'it is not from a provider')
      check(!settings.dpopRequired, 'tokens must be bound to a key, and this token comes without a proof')
      const found = toKept(await verifyJwt(token, await issuers.findProvider(request, origin)))
      check(found.confirmation === undefined, 'it is bound to a key, and cannot be exchanged')
      return found
    },

    forget (sub) {
      kept.clear()
      opaqueTokens.forget(sub)
    }
  }
}

// Several providers may have the same issuer. Then the names select one of them.
function qualifierOf (names: ProviderNames): string | undefined {
  return names === undefined ? undefined : JSON.stringify(names)
}
