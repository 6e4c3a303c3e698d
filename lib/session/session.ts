import { randomBytes } from 'node:crypto'
import type { OidcSession, OidcClaims, OidcUser, OidcTokens } from '../../types/claims.ts'
import { now } from '../util/time.ts'
import type { Provider } from '../provider/provider.ts'

/**
 * The hot part: what every guarded request needs, in one cookie. Frozen when it was opened, because requests
 * share it.
 */
export interface Session {
  version: 2
  /** The `id` of the provider. */
  issuedBy: string
  session: OidcSession
  claims: OidcClaims
  user: OidcUser | null
  /** When it began, in milliseconds since the epoch. */
  loginAt: number
  /** When the idle time began, in seconds since the epoch. */
  seenAt: number
  /** How often the tokens were replaced. */
  revision: number
}

/** The tokens that are kept, and the resources that they were asked for where the login said so itself. */
export type SessionTokens = Partial<OidcTokens> & { resource?: string[] | undefined }
export interface NewSession {
  /**
   * When the provider was asked for the tokens, in milliseconds since the epoch: a logout after that concerns
   * the session.
   */
  loginAt: number
  session: Omit<OidcSession, 'id' | 'provider' | 'loginTime' | 'expiresAt'>
  claims: Session['claims']
  user: Session['user']
  tokens: OidcTokens & SessionTokens
  /** The one that the browser had when the login began, for a callback that comes without cookies. */
  before?: OidcSession | undefined
}

/** A session that begins now, with an identity of its own; `maxAge` in seconds. */
export function newSession (
  { id: issuedBy, name }: Provider,
  { loginAt, session, claims, user }: Omit<NewSession, 'tokens' | 'before'>,
  maxAge: number
): Session {
  const time = now()
  const identity = { id: randomBytes(16).toString('base64url'), loginTime: time, expiresAt: time + maxAge }
  return {
    version: 2,
    issuedBy,
    session: { ...session, provider: name, ...identity },
    claims,
    user,
    loginAt,
    seenAt: time,
    revision: 0
  }
}
