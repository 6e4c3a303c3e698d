import { checkWith } from '../errors.ts'
import { claimsOf, describeToken } from '../provider/access-token.ts'
import { subjectOf } from '../provider/token-subject.ts'
import { hasFewLevels, isRecord } from '../util/json.ts'
import { now } from '../util/time.ts'
import { freeze } from '../util/token-cache.ts'
import type { JWTPayload } from 'jose'
import type { Check } from '../errors.ts'
import type { TokenIssuer } from '../provider/token-issuer.ts'
import type { SubjectContext } from '../provider/token-subject.ts'
import type { OidcClaims, OidcToken } from '../../types/claims.ts'

/** An access token that was verified. */
export interface VerifiedToken<I extends TokenIssuer = TokenIssuer> {
  claims: OidcClaims
  token: OidcToken
  provider: I
}

/** A verified token, with the facts that its next use depends on. */
export interface KeptToken<I extends TokenIssuer = TokenIssuer> extends VerifiedToken<I> {
  /** The keys that it was verified with. */
  keys: unknown
  confirmation: Confirmation | undefined
}

/** The `cnf` claim (RFC 7800, section 3.1). */
export type Confirmation = Record<string, unknown>

/** The claims that an issuer has confirmed. */
export interface TokenClaims<I extends TokenIssuer = TokenIssuer> {
  provider: I
  keys: unknown
  payload: JWTPayload
  isIntrospected: boolean
}

/** How long a token is valid that has no `exp`, and how long a verified token is kept, in seconds. */
export const MAX_LIFETIME = 3600

const check: Check = checkWith('FST_OIDC_TOKEN')

/**
 * Throws FST_OIDC_TOKEN when `sub`, `cnf` or the whole is malformed, and FST_OIDC_FORBIDDEN when the token is of
 * neither a user nor a client. The result is frozen, because requests share it.
 */
export function toKeptToken<I extends TokenIssuer> (
  verified: TokenClaims<I>,
  clients: Pick<SubjectContext, 'clients' | 'knownClients'>
): KeptToken<I> {
  const { provider, keys, payload, isIntrospected } = verified
  check(hasFewLevels(payload), 'its claims have too many levels')
  const { cnf, sub, exp = now() + MAX_LIFETIME } = payload
  check(sub === undefined || (typeof sub === 'string' && sub !== ''), 'sub is not a string')
  check(cnf === undefined || isRecord(cnf), 'cnf is not an object')
  const subject = provider.onlyUsers === true ? 'user' : subjectOf(payload, { ...clients, isIntrospected })
  return {
    claims: freeze(claimsOf(payload, provider.settings.issuer)),
    token: freeze(describeToken(providerNameOf(verified), payload, { subject, expiresAt: exp })),
    provider,
    keys,
    confirmation: cnf
  }
}

/** The name of the provider that has logged the token's user in. */
export function providerNameOf ({ provider, payload }: Pick<TokenClaims, 'provider' | 'payload'>): string {
  return provider.providerOf?.(payload) ?? provider.name
}
