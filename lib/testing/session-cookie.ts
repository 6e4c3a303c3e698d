import { coreOf } from '../compose.ts'
import { newSession } from '../session/session.ts'
import { now } from '../util/time.ts'
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
  /** The provider, by name; default: the first. */
  provider?: string
}

/**
 * The Cookie header of a person who is logged in, without a provider. Call it after `await app.ready()`; with
 * `session.store`, give it a `memory:` store.
 *
 * @example
 * const cookie = sessionCookie(app, { claims: { sub: 'alice', roles: ['admin'] } })
 * const response = await app.inject({ url: '/admin', headers: { cookie } })
 */
export function sessionCookie (app: FastifyInstance, options: SessionCookieOptions = {}): string {
  const { settings, sessionCookies, providers, records } = coreOf(app.oidc)
  const { claims, user = null, tokens, authTime = now(), provider: name, ...rest } = options
  const provider = name === undefined ? providers.all()[0] : providers.known(name)
  if (provider == null) throw new Error('the provider is not known (yet): log in with it first')
  const { scope: granted = provider.settings.scope, ...session_ } = rest
  const session = newSession(provider, {
    loginAt: Date.now(),
    session: { scopes: granted.split(' '), authTime, ...session_ },
    claims: { iss: provider.settings.issuer, sub: 'alice', ...claims },
    user
  }, settings.session.maxAge)
  const kept = { access_token: 'access-token-of-a-test', token_type: 'bearer', expires_at: now() + 3600, ...tokens }
  const written = sessionCookies.write(undefined, session, kept, settings.session.maxAge)
  // A memory store has it at once; what goes wrong is an unhandled rejection, which a test shows.
  records?.create(session, kept).then()
  return written.setCookies.map((setCookie) => setCookie.split(';', 1)[0]).join('; ')
}
