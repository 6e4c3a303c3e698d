import type { FastifyReply, FastifyRequest } from 'fastify'
import type { OidcClaims, OidcSession, OidcToken, OidcUser, UserinfoClaims } from './claims.ts'
import type { OidcErrorCode } from '../lib/errors.ts'
import type { AccessTokenOptions, GuardOptions, LoginOptions, LogoutOptions, OptionalGuardOptions } from './options.ts'

/**
 * Which sessions `app.oidc.sessions` finds: those that match all the given fields. At least one field is required.
 * A field that is set to `undefined` is an error, so that a missing value never matches every session.
 */
export interface SessionFilter {
  /** The `id` of `request.oidcSession`. Without `session.store`, it cannot be combined with other fields. */
  id?: string
  /** The session identifier of the provider. */
  sid?: string
  /** The user, as the provider identifies them. */
  sub?: string
  /**
   * The name of the provider. With `sub` or `sid`: the provider that assigned it. Default: any provider. With
   * `resolveProvider`, `revoke` requires it unless `id` is given.
   */
  provider?: string
}

/**
 * Which grants `app.oidc.broker.revoke` ends: exactly one of `sub`, `sid` and `jti`, with the value that an access
 * token of this application has.
 */
export interface BrokerFilter {
  /** The user, by the `sub` of the access token. */
  sub?: string
  /** Only with `sub`: the name of a provider. `sub` is then the identifier of the user at that provider. */
  provider?: string
  /** The grant: the `sid` of the access token. */
  sid?: string
  /** The access token: ends its grant, and so all tokens of that grant. */
  jti?: string
}

/** A session in the store. */
export interface ListedSession extends OidcSession {
  /** The user, as the provider identifies them. */
  sub: string
}

/** Whether users can log in at a provider. */
export interface ProviderHealth {
  /**
   * - `ok`: the metadata and keys of the provider are up to date.
   * - `stale`: the provider does not answer, but its cached metadata and keys can still be used.
   * - `unavailable`: the provider does not answer and nothing usable is cached. Logins fail.
   */
  status: 'ok' | 'stale' | 'unavailable'
  /** The error that makes the provider `unavailable`. */
  code?: OidcErrorCode
}

/** Whether the store can be used. */
export interface StoreHealth {
  /**
   * - `ok`: the store can be read and written.
   * - `readonly`: the store answers, but takes no new entries. Sessions continue; logins and logouts may fail.
   * - `unavailable`: the store does not answer. Every request with a session is answered with 503.
   */
  status: 'ok' | 'readonly' | 'unavailable'
}

/** The result of `app.oidc.health()`. */
export interface Health {
  /**
   * - `ok`: every provider and the store are `ok`.
   * - `degraded`: sessions continue, but logins may fail. The process is ready.
   * - `unavailable`: the store does not answer. The process is not ready: it cannot tell who its users are.
   */
  status: 'ok' | 'degraded' | 'unavailable'
  /** Absent without a store. */
  store?: StoreHealth
  /** The providers by name. With `resolveProvider`, only the tenants that are cached in this process. */
  providers: Record<string, ProviderHealth>
  /** What works, but should be changed, as sentences for an operator. Left out when there is nothing. */
  warnings?: string[]
}

/** A request of any server (HTTP/1, HTTP/2), with any logger and type provider. */
export type AnyRequest = FastifyRequest<any, any, any, any, any, any, any>
/** The reply to such a request. */
export type AnyReply = FastifyReply<any, any, any, any, any, any, any>

/**
 * A guard: a preHandler, which also fits other hooks before the handler.
 *
 * Without `done`, it returns a promise. The promise is fulfilled when the request may pass. Otherwise the guard has
 * answered the request, and the promise is rejected with the `OidcError`.
 */
export interface GuardHandler {
  (request: AnyRequest, reply: AnyReply, done: (error?: Error) => void): void
  (request: AnyRequest, reply: AnyReply): Promise<void>
}

/** The result of `app.oidc.authenticate()`: what a guard sets on the request. */
export interface Authentication {
  /** The validated claims of the user. Frozen. */
  claims: OidcClaims
  /** The value that `onClaims` returned at login. `null` with an access token. Frozen. */
  user: OidcUser | null
  /** `null` with an access token. */
  session: OidcSession | null
  /** The verified access token. `null` with a session. */
  token: OidcToken | null
}

/** The result of `app.oidc.session()`: who the user of a session is. */
export interface SessionIdentity {
  /** The validated claims of the user. Frozen. */
  claims: OidcClaims
  /** The value that `onClaims` returned at login. Frozen. */
  user: OidcUser | null
  session: OidcSession
}

/** The API of the plugin: `app.oidc`. */
export interface Oidc {
  /**
   * Returns a preHandler that requires a user who meets the constraints.
   *
   * A user who opens a page without being logged in is redirected to the login. Every other request that does not meet
   * the constraints is answered with 401 or 403.
   *
   * @throws OidcError `FST_OIDC_OPTION` when a constraint is wrong
   * @example
   * app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, async () => 'admins only')
   */
  required: (options?: GuardOptions) => GuardHandler
  /**
   * Returns a preHandler that also admits anonymous requests. For those, `request.oidcClaims` is `null`. A user who is
   * logged in must meet the constraints.
   *
   * @throws OidcError `FST_OIDC_OPTION` when a constraint is wrong
   */
  optional: (options?: OptionalGuardOptions) => GuardHandler
  /**
   * Makes the decision of `required()` and never answers: the caller decides what follows, for example to try another
   * way of authentication. Sets the same properties on the request as a guard.
   *
   * @throws OidcError `FST_OIDC_LOGIN_REQUIRED`, `FST_OIDC_AUTHENTICATION_TOO_OLD`, `FST_OIDC_FORBIDDEN`,
   * `FST_OIDC_CROSS_SITE` when the request does not meet the constraints; with an access token `FST_OIDC_TOKEN`,
   * `FST_OIDC_AUTHORIZATION`, `FST_OIDC_DPOP` or `FST_OIDC_DPOP_NONCE`; `FST_OIDC_STORE_UNAVAILABLE` and
   * `FST_OIDC_PROVIDER_UNAVAILABLE` when it could not be decided; `FST_OIDC_OPTION` when a constraint is wrong
   */
  authenticate: (request: AnyRequest, options?: GuardOptions) => Promise<Authentication>
  /**
   * Reads the session of a request without a guard, for example for the context of GraphQL or tRPC. Returns `null`
   * when there is none. It never answers, never starts a login, and sets no property of the request.
   *
   * What holds for a guard holds here: the session is prolonged, the access token is refreshed with `refresh: true`
   * when it is due, and the response gets the same caching headers. A
   * session whose claims do not meet `requiredClaims`, and one of an unsafe request or of an upgrade from another
   * origin, is `null` too; the log says why. An access token does not count: see `authenticate`.
   *
   * @throws OidcError `FST_OIDC_STORE_UNAVAILABLE` and `FST_OIDC_PROVIDER_UNAVAILABLE` when it could not be decided;
   * `FST_OIDC_OUTSIDE` outside the scope of the plugin; `FST_OIDC_OPTION` when an option is wrong
   */
  session: (request: AnyRequest, options?: Pick<GuardOptions, 'refresh'>) => Promise<SessionIdentity | null>
  /**
   * Returns the access token of the session. Refreshes it when it expires within 30 seconds. Call it before the reply
   * is sent: the reply carries the new tokens in cookies.
   *
   * @throws OidcError `FST_OIDC_LOGIN_REQUIRED` when there is no session or no usable token, when the provider refused
   * the refresh, or when the request came with an access token instead of a session
   * @throws OidcError `FST_OIDC_PROVIDER_UNAVAILABLE` when the provider did not answer and the old token has expired
   * @throws OidcError `FST_OIDC_ID_TOKEN` when the answer was an ID token of another user or login: the session has
   * ended
   */
  accessToken: (request: AnyRequest, options?: AccessTokenOptions) => Promise<string>
  /**
   * Fetches the current claims of the session's user from the UserInfo endpoint (OpenID Connect Core 1.0, section 5.3).
   *
   * @throws OidcError with the codes of `accessToken`, and `FST_OIDC_USERINFO` when a check of the response failed
   */
  userinfo: (request: AnyRequest) => Promise<UserinfoClaims>
  /**
   * Replaces the user of the session, for what changes after the login, and `request.oidcUser` at once. The value must
   * be JSON; `null` removes the user. The session keeps its identifier, its begin and its end. Other sessions of the
   * user, and the tokens of the broker, stay as they are. Call it before the reply is sent: the reply carries the user
   * in a cookie, for which the limits of size are those of `onClaims`.
   *
   * @throws OidcError `FST_OIDC_LOGIN_REQUIRED` when there is no session, when it has ended in the meantime, when an
   * unsafe request came from another site, or when the request has an access token instead of a session;
   * `FST_OIDC_SESSION_TOO_LARGE` when the user does not fit into the cookies; `FST_OIDC_OPTION` when it is not JSON;
   * `FST_OIDC_OUTSIDE` in a route outside the scope of the plugin
   */
  updateUser: (request: AnyRequest, user: OidcUser | null) => Promise<void>
  /**
   * Starts a login: redirects the browser to the provider. With several providers and no `provider` option, redirects
   * to the page where the user chooses one.
   *
   * @throws OidcError `FST_OIDC_OPTION` when an option is wrong, `FST_OIDC_PROVIDER_UNKNOWN` when there is no such
   * provider, `FST_OIDC_PROVIDER_UNAVAILABLE` when the provider does not answer; with pushed requests also
   * `FST_OIDC_PROVIDER_RESPONSE` and `FST_OIDC_CLIENT_AUTHENTICATION`; with several providers
   * `FST_OIDC_LOGIN_REQUIRED` when there is no page for choosing one
   */
  login: (request: AnyRequest, reply: AnyReply, options?: LoginOptions) => Promise<AnyReply>
  /**
   * Ends the session in this application and, when the provider has an end-session endpoint, at the provider (OpenID
   * Connect RP-Initiated Logout 1.0). Redirects the browser.
   *
   * @throws OidcError `FST_OIDC_STORE_UNAVAILABLE` when the end of the session could not be written
   */
  logout: (request: AnyRequest, reply: AnyReply, options?: LogoutOptions) => Promise<AnyReply>
  /** The sessions of all users, in all processes. */
  sessions: {
    /**
     * Returns the sessions that match the filter.
     *
     * @throws OidcError `FST_OIDC_OPTION` without `session.store`: sessions in cookies cannot be listed;
     * `FST_OIDC_STORE_UNAVAILABLE`
     */
    list: (filter: SessionFilter) => Promise<ListedSession[]>
    /**
     * Ends the sessions that match the filter and that began before this call. A later login is not affected.
     * Returns how many sessions it found: 0 when sessions are in cookies, although they end as well.
     *
     * @throws OidcError `FST_OIDC_OPTION` when the filter is wrong; `FST_OIDC_STORE_UNAVAILABLE`: some sessions may go
     * on, so call it again
     */
    revoke: (filter: SessionFilter) => Promise<number>
  }
  /**
   * The tokens that this application issues. Each function throws an `OidcError` `FST_OIDC_OPTION` when the option
   * `broker` is not set, and `FST_OIDC_STORE_UNAVAILABLE` when the store fails.
   */
  broker: {
    /** Ends the grants that match the filter, at once and in all processes. Returns how many grants it ended. */
    revoke: (filter: BrokerFilter) => Promise<number>
    /**
     * Creates a new signing key. It is published at once and signs after ten minutes. The previous keys verify tokens
     * until the last token that they signed has expired.
     */
    rotateKeys: () => Promise<void>
  }
  /**
   * Checks the store and the providers, for a readiness probe. Fetches missing or outdated metadata and keys of each
   * provider, and reads and writes one entry of the store. Takes two seconds at most; calls within one second get the
   * same answer. Never throws.
   */
  health: () => Promise<Health>
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * What the route says to its guards. `false`: the route is public, and guards that are hooks of its scope leave it
     * out. Conditions: they are added to those of each guard of the route, which then requires a login, also when it is
     * `optional()`. Default: what the guards ask.
     *
     * A wrong condition throws an `OidcError` `FST_OIDC_OPTION` when the route is registered. Conditions on a route
     * that no guard covers make the start of the application fail with that code.
     */
    oidc?: false | GuardOptions
  }
  interface FastifyInstance {
    /** The API of fastify-oidc. */
    oidc: Oidc
  }
  interface FastifyRequest {
    /** The validated claims of the user. `null` before a guard has run and for anonymous requests. Frozen. */
    oidcClaims: OidcClaims | null
    /** The value that `onClaims` returned at login, or `updateUser` got. `null` without a session. Frozen. */
    oidcUser: OidcUser | null
    /** The session. `null` before a guard has run, for anonymous requests and for requests with an access token. */
    oidcSession: OidcSession | null
    /** The access token that the guard verified. `null` when the request did not come with one. */
    oidcToken: OidcToken | null
  }
}
