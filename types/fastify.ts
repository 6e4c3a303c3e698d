import type { FastifyReply, FastifyRequest, preHandlerHookHandler } from 'fastify'
import type { OidcClaims, OidcSession, OidcUser, UserinfoClaims } from './claims.ts'
import type { GuardOptions, LoginOptions, LogoutOptions } from './options.ts'

/** `app.oidc` */
export interface Oidc {
  /** A preHandler that lets only logged-in people through who meet the constraints. */
  required: (options?: GuardOptions) => preHandlerHookHandler
  /** A preHandler that also lets anonymous requests through, with `request.oidcClaims` null; a person must meet the constraints. */
  optional: (options?: GuardOptions) => preHandlerHookHandler
  /**
   * The access token of the session, refreshed a little before it expires. Call it before the reply begins, which takes the new tokens along.
   * Throws an `OidcError`: `FST_OIDC_LOGIN_REQUIRED` without a session or token, `FST_OIDC_PROVIDER_UNAVAILABLE` when the refresh failed for now.
   */
  accessToken: (request: FastifyRequest) => Promise<string>
  /** The UserInfo claims of the session. Throws an `OidcError`. */
  userinfo: (request: FastifyRequest) => Promise<UserinfoClaims>
  /** Sends the browser to the provider. */
  login: (request: FastifyRequest, reply: FastifyReply, options?: LoginOptions) => Promise<FastifyReply>
  /** Ends the session here and, when the provider can, there. */
  logout: (request: FastifyRequest, reply: FastifyReply, options?: LogoutOptions) => Promise<FastifyReply>
}

declare module 'fastify' {
  interface FastifyInstance {
    oidc: Oidc
  }
  interface FastifyRequest {
    /** The validated claims of the person, or `null`; set by the guards. */
    oidcClaims: OidcClaims | null
    /** What `onClaims` returned, or `null`; set by the guards. */
    oidcUser: OidcUser | null
    /** The session, or `null`; set by the guards. */
    oidcSession: OidcSession | null
  }
}
