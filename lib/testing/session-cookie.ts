import { coreOf } from '../core.ts'
import { newSession } from '../session.ts'
import { now } from '../time.ts'
import type { FastifyInstance } from 'fastify'
import type { OidcClaims, OidcTokens, OidcUser } from '../../types/index.ts'

/** Who is logged in. */
export interface SessionCookieOptions {
  /** Laid over `{ iss, sub: 'alice' }`, where `iss` is the provider's. */
  claims?: Partial<OidcClaims>
  /** What `onClaims` would have returned; default `null`. */
  user?: OidcUser | null
  /** Laid over an access token that expires in an hour. */
  tokens?: Partial<OidcTokens>
  /** The granted scopes, space-separated; default: those that the application asks for. */
  scope?: string
  /** When the person authenticated, in seconds since the epoch; default: now. */
  authTime?: number
  /** The authentication context class. */
  acr?: string
  /** The session identifier of the provider. */
  sid?: string
}

/**
 * The Cookie header of a person who is logged in, without a provider. Call it after `await app.ready()`.
 *
 * @example
 * const cookie = sessionCookie(app, { claims: { sub: 'alice', roles: ['admin'] } })
 * const response = await app.inject({ url: '/admin', headers: { cookie } })
 */
export function sessionCookie (app: FastifyInstance, options: SessionCookieOptions = {}): string {
  const { settings, sessionCookies } = coreOf(app.oidc)
  const { issuer = 'https://provider.test', scope, name } = settings.provider
  const { claims, user = null, tokens, authTime = now(), scope: granted = scope, ...rest } = options
  const session = newSession({
    session: { provider: name, scopes: granted.split(' '), authTime, ...rest },
    claims: { iss: issuer, sub: 'alice', ...claims },
    user
  }, settings.session.maxAge)
  const written = sessionCookies.write(undefined, session, {
    access_token: 'access-token-of-a-test', token_type: 'bearer', expires_at: now() + 3600, ...tokens
  }, settings.session.maxAge)
  return written.setCookies.map((setCookie) => setCookie.split(';', 1)[0]).join('; ')
}
