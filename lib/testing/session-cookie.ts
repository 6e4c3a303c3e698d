import { partsOf } from '../decorator.ts'
import { newSession } from '../session/session.ts'
import { now } from '../util/time.ts'
import { splitWords } from '../util/words.ts'
import type { FastifyInstance } from 'fastify'
import type { OidcClaims, OidcTokens, OidcUser } from '../../types/index.ts'

/** Options of `sessionCookie`: the session that the cookie has. */
export interface SessionCookieOptions {
  /** Claims that replace or extend `{ iss, sub: 'alice' }`, where `iss` is the issuer of the provider. */
  claims?: Partial<OidcClaims>
  /** The user, as `onClaims` would return it. Default: `null`. */
  user?: OidcUser | null
  /** Tokens that replace or extend an access token that expires in an hour. */
  tokens?: Partial<OidcTokens>
  /** The granted scopes, separated by spaces. Default: the scopes that the application requests. */
  scope?: string
  /** When the user authenticated, in seconds since the epoch. Default: now. */
  authTime?: number
  /** The authentication context class. */
  acr?: string
  /** The session identifier of the provider. */
  sid?: string
  /** The name of the provider. Default: the first one. */
  provider?: string
}

/**
 * Creates the Cookie header of a user who is logged in, without a provider. Call it after `await app.ready()`. With
 * `session.store`, use a `memory:` store. A request with it that has neither `Origin` nor `Sec-Fetch-Site`, such as one
 * of `inject`, counts as one of the application's own pages: a POST passes the guards.
 *
 * @example
 * const cookie = sessionCookie(app, { claims: { sub: 'alice', roles: ['admin'] } })
 * const response = await app.inject({ url: '/admin', headers: { cookie } })
 */
export function sessionCookie (app: FastifyInstance, options: SessionCookieOptions = {}): string {
  const { settings, cookies, providers, records, endedSessions, ownOrigin } = partsOf(app.oidc)
  const { claims, user = null, tokens, authTime = now(), provider: name, ...rest } = options
  const provider = name === undefined ? providers.all()[0] : providers.known(name)
  if (provider == null) throw new Error('the provider is not known: with "resolveProvider", log in with it first')
  const { scope: granted = provider.settings.scope, ...session_ } = rest
  const session = newSession(provider, {
    loginAt: endedSessions.loginTimeHere(),
    session: { scopes: splitWords(granted), authTime, ...session_ },
    claims: { iss: provider.settings.issuer, sub: 'alice', ...claims },
    user
  }, settings.session.maxAge)
  const kept = { access_token: 'access-token-of-a-test', token_type: 'bearer', expires_at: now() + 3600, ...tokens }
  const written = cookies.write(undefined, session, kept, settings.session.maxAge)
  // A memory store has it at once. An error becomes an unhandled rejection, which the test runner reports.
  records?.create(session, kept).then()
  const pairs = written.setCookies.map((setCookie) => setCookie.split(';', 1)[0] as string)
  ownOrigin.addTestCookie(pairs[0] as string)
  return pairs.join('; ')
}
