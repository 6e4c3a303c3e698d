import { randomBytes } from 'node:crypto'
import { now } from '../util/time.ts'
import type { ClaimOrigins } from '../provider/claim-sources.ts'
import type { Provider } from '../provider/provider.ts'
import type { OidcClaims, OidcSession, OidcTokens, OidcUser } from '../../types/claims.ts'

/**
 * The part of a session that every guarded request reads: one small cookie.
 * It is frozen when the cookie is opened, because requests share it.
 */
export interface Session {
  version: 2
  /** The `id` of the provider. */
  issuedBy: string
  session: OidcSession
  claims: OidcClaims
  /** Where the claims come from, where a refresh needs it, or the log. */
  sources?: ClaimOrigins | undefined
  user: OidcUser | null
  /**
   * The size of the cookie that has the user, in bytes: `updateUser` has replaced the one of the login. It is not
   * sealed.
   */
  userBytes?: number
  /** When the session began, in milliseconds since the epoch. */
  loginAt: number
  /** When the idle time began, in seconds since the epoch. */
  seenAt: number
  /** How often the tokens were replaced. */
  revision: number
}

/** The tokens that a session keeps, and what a refresh needs. */
export interface SessionTokens extends Partial<OidcTokens> {
  /** The resources of a login that named its own (RFC 8707). */
  resource?: string[] | undefined
  /** The hash of the nonce of the login. The ID token itself is not always kept. */
  nonce_hash?: string | undefined
  /** The name under which these tokens are kept until a request comes with them. */
  kept_as?: string | undefined
}

/** The content of a new session, from a login. */
export interface NewSession {
  /** When the tokens were requested, in milliseconds since the epoch. A logout after that ends the session. */
  loginAt: number
  session: Omit<OidcSession, 'id' | 'provider' | 'loginTime' | 'expiresAt'>
  claims: Session['claims']
  sources?: Session['sources']
  user: Session['user']
  tokens: OidcTokens & SessionTokens
  /** The session that the browser had when the login began, for a callback that comes without cookies. */
  before?: OidcSession | undefined
}

/** A session that begins now, with a new identifier; `maxAge` in seconds. */
export function newSession (
  { id: issuedBy, name, settings }: Provider,
  { loginAt, session, claims, sources, user }: Omit<NewSession, 'tokens' | 'before'>,
  maxAge: number
): Session {
  const time = now()
  const identity = { id: randomBytes(16).toString('base64url'), loginTime: time, expiresAt: time + maxAge }
  return {
    version: 2,
    issuedBy,
    session: { ...session, provider: name, ...identity },
    claims,
    ...(areNeeded(sources, settings) && { sources }),
    user,
    loginAt,
    seenAt: time,
    revision: 0
  }
}

// They take room in the cookie.
function areNeeded (sources: Session['sources'], { rolesFrom }: Provider['settings']): boolean {
  return sources !== undefined && (rolesFrom !== undefined || sources.left_out !== undefined)
}

const ALWAYS_KEPT: ReadonlySet<string> = new Set([
  'token_type', 'expires_at', 'scope', 'resource', 'nonce_hash', 'kept_as'
])

/** The tokens that `session.tokens` names, and the members that describe them. */
export function selectTokens (tokens: SessionTokens, names: ReadonlySet<string>): SessionTokens {
  return Object.fromEntries(Object.entries(tokens).filter(([name]) => ALWAYS_KEPT.has(name) || names.has(name)))
}
