import type { FastifyReply, FastifyRequest, preHandlerHookHandler } from 'fastify'
import type { OidcClaims, OidcSession, OidcToken, OidcUser, UserinfoClaims } from './claims.ts'
import type { OidcErrorCode } from '../lib/errors.ts'
import type { AccessTokenOptions, GuardOptions, LoginOptions, LogoutOptions, OptionalGuardOptions } from './options.ts'

/** By what sessions are found: one of `id`, `sid`, `sub` and `provider`, and any of the others. */
export interface SessionFilter {
  /** The `id` of `request.oidcSession`. */
  id?: string
  /** The provider's session identifier. */
  sid?: string
  sub?: string
  /** By name; with `sub` or `sid`, whose those are. Default: any. */
  provider?: string
}

/** One of these, as they are in an access token of this application. */
export interface BrokerFilter {
  sub?: string
  /** With it, `sub` is as that provider names the person, whom tokens may name by both. */
  provider?: string
  sid?: string
  jti?: string
}

export interface ListedSession extends OidcSession {
  sub: string
}

/** Whether people can log in at a provider. */
export interface ProviderHealth {
  /** `stale`: it does not answer, but what is known of it will do for a while. `unavailable`: nobody can log in. */
  status: 'ok' | 'stale' | 'unavailable'
  /** Why nobody can log in. */
  code?: OidcErrorCode
}

export interface Health {
  /** `ok` when all providers are, else `degraded`: sessions go on, but logins may fail. */
  status: 'ok' | 'degraded'
  /** By name; of tenants those that are known by now. */
  providers: Record<string, ProviderHealth>
}

/** `app.oidc` */
export interface Oidc {
  /** A preHandler that lets only logged-in people through who meet the constraints. */
  required: (options?: GuardOptions) => preHandlerHookHandler
  /**
   * A preHandler that also lets anonymous requests through, with `request.oidcClaims` null; a person must
   * meet the constraints.
   */
  optional: (options?: OptionalGuardOptions) => preHandlerHookHandler
  /**
   * The access token of the session, refreshed a little before it expires. Call it before the reply begins,
   * which takes the new tokens along.
   * Throws an `OidcError`: `FST_OIDC_LOGIN_REQUIRED` without a session or token, and where an access token
   * let the request in, `FST_OIDC_PROVIDER_UNAVAILABLE` when the refresh failed for now.
   */
  accessToken: (request: FastifyRequest, options?: AccessTokenOptions) => Promise<string>
  /** The UserInfo claims of the session. Throws an `OidcError`. */
  userinfo: (request: FastifyRequest) => Promise<UserinfoClaims>
  /** Sends the browser to the provider, or where the person chooses one. Throws an `OidcError`. */
  login: (request: FastifyRequest, reply: FastifyReply, options?: LoginOptions) => Promise<FastifyReply>
  /** Ends the session here and, when the provider can, there. */
  logout: (request: FastifyRequest, reply: FastifyReply, options?: LogoutOptions) => Promise<FastifyReply>
  /** The sessions of everybody, on every process. */
  sessions: {
    /** Sessions in the store. Throws an `OidcError`: `FST_OIDC_OPTION` where they are in cookies. */
    list: (filter: SessionFilter) => Promise<ListedSession[]>
    /**
     * Logs out everywhere; a login after that is not concerned. Returns how many sessions were found: none
     * where they are in cookies, which end all the same.
     */
    revoke: (filter: SessionFilter) => Promise<number>
  }
  /** The tokens of this application's own. Each function throws an `OidcError`: `FST_OIDC_OPTION` without `broker`. */
  broker: {
    /**
     * Ends what somebody was given, on every process at once: all of a `sub`, or that of a token by its `sid`
     * or `jti`. Returns how many grants there were.
     */
    revoke: (filter: BrokerFilter) => Promise<number>
    /** Makes a new key, which signs in ten minutes; the ones before it verify until their last token has expired. */
    rotateKeys: () => Promise<void>
  }
  /**
   * Whether people can log in, for a readiness probe: fetches the metadata and keys of each provider that are
   * missing or too old, within `timeout`. Never throws.
   */
  health: () => Promise<Health>
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
    /** The access token that the request came with, or `null`. */
    oidcToken: OidcToken | null
  }
}
