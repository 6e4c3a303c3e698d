import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Meter, Tracer } from '@opentelemetry/api'
import type { IdTokenClaims, OidcClaims, OidcSession, OidcTokens, OidcUser, UserinfoClaims } from './claims.ts'
import type { OidcError } from '../lib/errors.ts'

/** The metadata of a provider (OpenID Connect Discovery 1.0, section 3), given whole instead of discovered. */
export interface ProviderMetadata {
  issuer: string
  authorization_endpoint: string
  token_endpoint: string
  jwks_uri: string
  userinfo_endpoint?: string
  end_session_endpoint?: string
  revocation_endpoint?: string
  authorization_response_iss_parameter_supported?: boolean
  [parameter: string]: unknown
}

/** Client authentication at the token endpoint (OpenID Connect Core 1.0, section 9). */
export type ClientAuth = 'client_secret_basic' | 'client_secret_post' | 'client_secret_jwt' | 'none'

/** One OpenID Provider and the client that is registered there. One of `issuer`, `discoveryUrl` and `metadata` is required. */
export interface ProviderOptions {
  /** The issuer, exactly as the provider writes it; its metadata is found at `/.well-known/openid-configuration` below it. */
  issuer?: string
  /** Where the metadata is; with an `issuer` or `expectedIssuer`, unless it ends with `/.well-known/openid-configuration` behind the issuer. */
  discoveryUrl?: string
  /** The metadata itself: nothing is discovered then. */
  metadata?: ProviderMetadata
  clientId: string
  clientSecret?: string
  /** Default: `client_secret_basic` with a `clientSecret`, else `none`. */
  clientAuth?: ClientAuth
  /** Space-separated; contains `openid`. Default: `openid profile email`. */
  scope?: string
  /** Adds `offline_access` and `prompt=consent` (OpenID Connect Core 1.0, section 11). Default: `false`. */
  offlineAccess?: boolean
  /** Sent as `audience` with every login, for providers that want it. */
  audience?: string
  /** Resource indicators (RFC 8707), sent with the login and the token request. */
  resource?: string | string[]
  /** Further parameters of the authorization request; those that the plugin sets itself are refused. */
  authorizationParams?: Record<string, string>
  /** How the provider answers: by a redirect, or by a form that the browser posts (OAuth 2.0 Form Post Response Mode), over https only. Default: `query`. */
  responseMode?: 'query' | 'form_post'
  /** The one algorithm of the ID token's signature, as registered for the client; asymmetric only. Default: `RS256`. */
  idTokenSigningAlg?: SigningAlgorithm
  /** Audiences beside `clientId` that an ID token may name. Default: none. */
  trustedAudiences?: string[]
  /** Instead of the metadata's `jwks_uri`. */
  jwksUri?: string
  /** The `issuer` that the metadata and the tokens name, where it is not the configured one. */
  expectedIssuer?: string
  /** Fetches UserInfo at each login and keeps its claims beside those of the ID token, which win. Default: `false`. */
  userinfo?: boolean
  /** `eager` fetches the metadata at start and refuses to start without it; `lazy` fetches it when it is first needed. Default: `lazy`. */
  discovery?: 'lazy' | 'eager'
  /** How far the clocks may differ, in seconds, at most 300. Default: 30. */
  clockTolerance?: number
}

export type SigningAlgorithm =
  'RS256' | 'RS384' | 'RS512' | 'PS256' | 'PS384' | 'PS512' |
  'ES256' | 'ES384' | 'ES512' | 'EdDSA' | 'Ed25519'

/** Each route's path below `prefix`, or `false` to leave it out. */
export interface RouteOptions {
  /** Default: `/auth`. */
  prefix?: string
  /** Default: `login`. */
  login?: string | false
  /** Default: `callback`. The redirect_uri to register: `baseUrl` + `prefix` + this. */
  callback?: string
  /** Default: `logout`. */
  logout?: string | false
  /** Where the provider sends the browser after a logout: the post_logout_redirect_uri to register. Default: `logged-out`. */
  loggedOut?: string | false
  /** Default: `userinfo`. */
  userinfo?: string | false
  /** Default: `session`. */
  session?: string | false
}

/** A key of 32 bytes, as base64 or as bytes. */
export type SessionKey = string | Uint8Array

/** The session and its cookies. One of `key` and `secret` is required. */
export interface SessionOptions {
  /** 32 random bytes. The first of an array seals, all of them open: put a new one first to rotate. */
  key?: SessionKey | SessionKey[]
  /** A secret of at least 32 bytes of text, from which the key is derived; an array rotates like `key`. */
  secret?: string | string[]
  /** The base of the cookies' names; `__Host-` is put before it on https. Default: `oidc`. */
  cookieName?: string
  /** How long a session lives at most, in seconds. Default: 28800 (8 hours). */
  maxAge?: number
  /** How long a session lives without a guarded request, in seconds. Default: 3600 (1 hour). */
  idleTimeout?: number
  /** Default: `lax`. */
  sameSite?: 'lax' | 'strict' | 'none'
  /** Which tokens are kept for `app.oidc.accessToken()`, UserInfo and the logout hint. Default: all three. */
  tokens?: Array<'access_token' | 'refresh_token' | 'id_token'>
  /** Origins beside that of `baseUrl` whose pages may send unsafe requests with the session cookie. Default: none. */
  trustedOrigins?: string[]
}

export interface ClaimsContext {
  /** The name of the provider. */
  provider: string
  tokens: OidcTokens
  /** Fetches the UserInfo claims, whose `sub` is checked (OpenID Connect Core 1.0, section 5.3.2). Throws an `OidcError`. */
  userinfo: () => Promise<UserinfoClaims>
  /** Where the browser will be sent: an absolute URL below the application's own origin. */
  returnTo: string
  request: FastifyRequest
  reply: FastifyReply
}

export interface LogoutContext {
  reason: 'logout' | 'login' | 'refresh_failed'
  request: FastifyRequest
}

export interface ErrorContext {
  request: FastifyRequest
  reply: FastifyReply
}

/** What a guard asks of the person. */
export interface GuardOptions {
  /** All of these scopes must have been granted; a string is space-separated. */
  scopes?: string | string[]
  /** Claims by path, and the value, or one of the values, that each must have: `{ 'realm_access.roles': 'admin' }`. */
  claims?: Record<string, ClaimValue | ClaimValue[]>
  /** One of these roles, from `roles`, `groups`, `realm_access.roles` and `resource_access.{clientId}.roles`. */
  roles?: string | string[]
  /** One of these authentication context classes. */
  acr?: string | string[]
  /** How long ago the person may have authenticated at the provider, in seconds. */
  maxAge?: number
}

export type ClaimValue = string | number | boolean

export interface LoginOptions {
  /** Where the browser goes after the login. Default: `defaultReturnTo`. */
  returnTo?: string
  /** How long ago the person may have authenticated, in seconds (`max_age`). */
  maxAge?: number
  /** The requested authentication context classes (`acr_values`); the result is checked. */
  acrValues?: string[]
  /** Further parameters of the authorization request, e.g. `prompt`, `login_hint`, `ui_locales`. */
  authorizationParams?: Record<string, string>
}

export interface LogoutOptions {
  /** Where the browser goes after the logout. Default: `defaultReturnTo`. */
  returnTo?: string
  /** `false` ends only the session here, not the one at the provider. Default: `true`. */
  federated?: boolean
}

/** A `fetch` (WHATWG) through which every call to a provider goes. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>

/** An undici dispatcher: a ProxyAgent, or an Agent with an own CA or a client certificate. */
export interface Dispatcher {
  dispatch: (...parameters: never[]) => boolean
}

/** The options of the plugin. */
export interface OidcOptions extends ProviderOptions {
  /** The public origin of the application, with a path if it is mounted under one. Never taken from a request. */
  baseUrl: string
  routes?: RouteOptions
  /** Where a login or logout without a (safe) `return_to` ends. Default: `/` below `baseUrl`. */
  defaultReturnTo?: string
  session: SessionOptions
  /** The claims to keep, by name, beside `iss` and `sub`. Default: all but the protocol's own (`nonce`, `at_hash`, `exp` …). */
  claims?: string[]
  /** Turns the claims into the application's own type, kept as `request.oidcClaims`; throwing refuses the login. */
  parseClaims?: (claims: IdTokenClaims) => OidcClaims | Promise<OidcClaims>
  /**
   * Runs after every check and before the session exists. What it returns (JSON) is kept as `request.oidcUser`;
   * throwing refuses the login, and sending a reply of its own replaces the login.
   */
  onClaims?: (claims: IdTokenClaims, context: ClaimsContext) => OidcUser | null | undefined | void | Promise<OidcUser | null | undefined | void>
  /** Runs after a session has ended. */
  onLogout?: (session: OidcSession, context: LogoutContext) => void | Promise<void>
  /** Runs before an error is answered; a reply that it sends replaces the plugin's own. */
  onError?: (error: OidcError, context: ErrorContext) => void | Promise<void>
  /** Claims that every guarded route asks for, as in `required({ claims })`. */
  requiredClaims?: Record<string, ClaimValue | ClaimValue[]>
  /** Default: the global `fetch`. */
  fetch?: Fetch
  /** Given to `fetch` with every call. */
  dispatcher?: Dispatcher
  /** How long a call to the provider may take, body included, in seconds. Default: 5. */
  timeout?: number
  /** The largest response that is read, in bytes. Default: 1048576 (1 MiB). */
  maxResponseBytes?: number
  /** `false` turns telemetry off; by default the global tracer and meter of `@opentelemetry/api`, when that is installed. */
  telemetry?: false | { tracer?: Tracer, meter?: Meter }
  /** Allows http for `baseUrl` and the provider on loopback addresses; refused when NODE_ENV is `production`. Default: `false`. */
  allowInsecureLoopback?: boolean
}
