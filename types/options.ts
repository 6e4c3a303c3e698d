import type { FastifyReply, FastifyRequest } from 'fastify'
import type { KeyObject } from 'node:crypto'
import type { JWK } from 'jose'
import type { Meter, Tracer } from '@opentelemetry/api'
import type { IdTokenClaims, OidcClaims, OidcSession, OidcTokens, OidcUser, UserinfoClaims } from './claims.ts'
import type { OidcError } from '../lib/errors.ts'
import type { Store } from './store.ts'

/** The metadata of a provider (OpenID Connect Discovery 1.0, section 3), given whole instead of discovered. */
export interface ProviderMetadata {
  issuer: string
  authorization_endpoint: string
  token_endpoint: string
  jwks_uri: string
  userinfo_endpoint?: string
  end_session_endpoint?: string
  revocation_endpoint?: string
  introspection_endpoint?: string
  pushed_authorization_request_endpoint?: string
  require_pushed_authorization_requests?: boolean
  authorization_response_iss_parameter_supported?: boolean
  /** Where a client with a certificate asks instead (RFC 8705, section 5). */
  mtls_endpoint_aliases?: Record<string, string>
  [parameter: string]: unknown
}

/** Client authentication at the token endpoint (OpenID Connect Core 1.0, section 9; RFC 8705, section 2.1). */
export type ClientAuth =
  'client_secret_basic' | 'client_secret_post' | 'client_secret_jwt' | 'private_key_jwt' | 'tls_client_auth' | 'none'

/**
 * A private key: a JWK, whose `alg`, `kid`, `x5t` and `x5t#S256` are used where it has them, or a PEM text or
 * KeyObject.
 * Without an `alg`: `RS256` and `RSA-OAEP` for RSA, that of the curve for the others.
 */
export type ClientKey = JWK | KeyObject | string

/** A value, or a function that gives it whenever it is needed, so that it can be another one without a restart. */
export type Rotatable<T> = T | (() => T | Promise<T>)

/** How the provider encrypts for this client (OpenID Connect Dynamic Client Registration 1.0, section 2). */
export interface Encryption {
  /** `id_token_encrypted_response_alg` or `userinfo_encrypted_response_alg`. */
  alg:
    | 'RSA-OAEP'
    | 'RSA-OAEP-256'
    | 'RSA-OAEP-384'
    | 'RSA-OAEP-512'
    | 'ECDH-ES'
    | 'ECDH-ES+A128KW'
    | 'ECDH-ES+A192KW'
    | 'ECDH-ES+A256KW'
  /** `id_token_encrypted_response_enc` or `userinfo_encrypted_response_enc`. Default: `A128CBC-HS256`. */
  enc?: 'A128CBC-HS256' | 'A192CBC-HS384' | 'A256CBC-HS512' | 'A128GCM' | 'A192GCM' | 'A256GCM'
}

/**
 * One OpenID Provider and the client that is registered there. One of `issuer`, `discoveryUrl` and `metadata`
 * is required.
 */
export interface ProviderOptions {
  /** What people are shown where they choose a provider. Default: its name. */
  label?: string
  /**
   * The issuer, exactly as the provider writes it; its metadata is found at
   * `/.well-known/openid-configuration` below it.
   */
  issuer?: string
  /**
   * Where the metadata is; with an `issuer` or `expectedIssuer`, unless it ends with
   * `/.well-known/openid-configuration` behind the issuer.
   */
  discoveryUrl?: string
  /** The metadata itself: nothing is discovered then. */
  metadata?: ProviderMetadata
  clientId: string
  clientSecret?: Rotatable<string>
  /**
   * Default: `client_secret_basic` with a `clientSecret`, `private_key_jwt` with a `clientKey`, else `none`.
   * `tls_client_auth` needs a `dispatcher` with the certificate, and uses the metadata's
   * `mtls_endpoint_aliases`.
   */
  clientAuth?: ClientAuth
  /** The key that signs for `private_key_jwt`. */
  clientKey?: Rotatable<ClientKey>
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
  /**
   * Sends the parameters of a login from here to the provider, and only a reference through the browser (RFC
   * 9126). Default: when the metadata's `require_pushed_authorization_requests` says so.
   */
  pushedAuthorizationRequests?: boolean
  /**
   * How the provider answers: by a redirect, or by a form that the browser posts (OAuth 2.0 Form Post
   * Response Mode), over https only. Default: `query`.
   */
  responseMode?: 'query' | 'form_post'
  /** The one algorithm of the ID token's signature, as registered for the client; asymmetric only. Default: `RS256`. */
  idTokenSigningAlg?: SigningAlgorithm
  /** The ID token is encrypted; one that is not is refused then. Needs a `decryptionKey`. Default: it is not. */
  idTokenEncryption?: Encryption
  /**
   * UserInfo is a JWT signed with this algorithm (OpenID Connect Core 1.0, section 5.3.2); another answer is
   * refused then. Default: plain JSON.
   */
  userinfoSigningAlg?: SigningAlgorithm
  /** UserInfo is encrypted; another answer is refused then. Needs a `decryptionKey`. Default: it is not. */
  userinfoEncryption?: Encryption
  /** The key, or the keys while they rotate, for which the provider encrypts. At most 10. */
  decryptionKey?: Rotatable<ClientKey | ClientKey[]>
  /** Audiences beside `clientId` that an ID token may name. Default: none. */
  trustedAudiences?: string[]
  /** Instead of the metadata's `jwks_uri`. */
  jwksUri?: string
  /** The `issuer` that the metadata and the tokens name, where it is not the configured one. */
  expectedIssuer?: string
  /** Fetches UserInfo at each login and keeps its claims beside those of the ID token, which win. Default: `false`. */
  userinfo?: boolean
  /**
   * `eager` fetches the metadata at start and refuses to start without it; `lazy` fetches it when it is first
   * needed. Default: `lazy`.
   */
  discovery?: 'lazy' | 'eager'
  /** How far the clocks may differ, in seconds, at most 300. Default: 30. */
  clockTolerance?: number
  /** Default: the global `fetch`. */
  fetch?: Fetch
  /** Given to `fetch` with every call. */
  dispatcher?: Dispatcher
  /** How long a call to the provider may take, body included, in seconds. Default: 5. */
  timeout?: number
  /** The largest response that is read, in bytes. Default: 1048576 (1 MiB). */
  maxResponseBytes?: number
}

export type SigningAlgorithm =
  'RS256' | 'RS384' | 'RS512' | 'PS256' | 'PS384' | 'PS512' |
  'ES256' | 'ES384' | 'ES512' | 'EdDSA' | 'Ed25519'

/**
 * Each route's path below `prefix`, or `false` to leave it out. With several providers `login`, `callback`,
 * `initiateLogin` and the logouts that the provider begins are below `{prefix}/{provider}`.
 */
export interface RouteOptions {
  /** Default: `/auth`. */
  prefix?: string
  /** Default: `login`. */
  login?: string | false
  /** Default: `callback`. The redirect_uri to register: `baseUrl` + `prefix` + this. */
  callback?: string
  /**
   * Where others may send a person to log in: the initiate_login_uri to register (OpenID Connect Core 1.0,
   * section 4). Default: `false`.
   */
  initiateLogin?: string | false
  /** Default: `logout`. */
  logout?: string | false
  /**
   * Where the provider sends the browser after a logout: the post_logout_redirect_uri to register. Default:
   * `logged-out`.
   */
  loggedOut?: string | false
  /**
   * Where the provider tells of logouts: the backchannel_logout_uri to register (OpenID Connect Back-Channel
   * Logout 1.0). Default: `backchannel-logout`.
   */
  backchannelLogout?: string | false
  /**
   * What the provider frames at a logout: the frontchannel_logout_uri to register (OpenID Connect
   * Front-Channel Logout 1.0). A frame of another site brings the cookie along only with `session.sameSite`
   * `none`. Default: `frontchannel-logout`.
   */
  frontchannelLogout?: string | false
  /** Default: `userinfo`. */
  userinfo?: string | false
  /** Default: `session`. */
  session?: string | false
  /**
   * The token endpoint (RFC 6749, section 3.2). Without a `broker` it passes the provider's tokens through,
   * to whoever brings a code or a refresh token of this client. Default: `token` with a `broker`, else
   * `false`.
   */
  token?: string | false
  /** Begins a device flow (RFC 8628). Default: `device` with a `broker`, else `false`. */
  device?: string | false
  /** Of a `broker`: the revocation endpoint (RFC 7009). Default: `revoke`. */
  revoke?: string | false
  /** Of a `broker`: the introspection endpoint (RFC 7662), for its `resourceServers`. Default: `introspect`. */
  introspect?: string | false
  /** Of a `broker`: its key set (RFC 7517). Default: `.well-known/jwks.json`. */
  jwks?: string | false
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
  /**
   * Default: `lax`. With `strict`, a login that begins on another site's link neither sees nor ends the
   * session that the
   * browser has.
   */
  sameSite?: 'lax' | 'strict' | 'none'
  /** Which tokens are kept for `app.oidc.accessToken()`, UserInfo and the logout hint. Default: all three. */
  tokens?: Array<'access_token' | 'refresh_token' | 'id_token'>
  /**
   * Keeps the sessions in the `store`: what the cookie holds is worth nothing without, and the tokens are not
   * in it. Default: `false`.
   */
  store?: boolean
  /**
   * For how many seconds a process trusts what the store said of a session. Default: 0, it is asked with
   * every request.
   */
  recheckAfter?: number
  /** Origins beside that of `baseUrl` whose pages may send unsafe requests with the session cookie. Default: none. */
  trustedOrigins?: string[]
}

export interface ClaimsContext {
  /** The name of the provider. */
  provider: string
  tokens: OidcTokens
  /**
   * Fetches the UserInfo claims, whose `sub` is checked (OpenID Connect Core 1.0, section 5.3.2). Throws an
   * `OidcError`.
   */
  userinfo: () => Promise<UserinfoClaims>
  /** Where the browser will be sent: an absolute URL below the application's own origin. */
  returnTo: string
  request: FastifyRequest
  reply: FastifyReply
}

export interface LogoutContext {
  /** `backchannel` and `frontchannel`: the provider said so; `revoked`: by `app.oidc.sessions.revoke`. */
  reason: 'logout' | 'login' | 'refresh_failed' | 'backchannel' | 'frontchannel' | 'revoked'
  /** `null` when it was no request that ended it. */
  request: FastifyRequest | null
}

export interface ErrorContext {
  request: FastifyRequest
  reply: FastifyReply
}

/** Access tokens of requests (RFC 6750): which ones are taken. */
export interface BearerOptions {
  /** The identifiers of this API: `aud` must be, or have, one of them (RFC 9068, section 4). */
  audience: string | string[]
  /** The algorithms that a JWT may be signed with. Default: RS256, PS256, ES256 and EdDSA. */
  algorithms?: SigningAlgorithm[]
  /**
   * Whether a JWT must say that it is an access token, by the `typ` `at+jwt` and the claims of RFC 9068. With
   * `false`, one that has no sign of being an ID token and one of being an access token will do. Default:
   * `true`.
   */
  strictType?: boolean
  /**
   * Asks the provider about tokens that are no JWT (RFC 7662): `true` with one provider, else the name of the
   * one to ask. Default: such tokens are refused.
   */
  introspection?: boolean | string
  /** For how long its answer is used again, in seconds, and never past `exp`. Default: 10. */
  introspectionMaxAge?: number
  /**
   * Takes tokens that are bound to a key (DPoP, RFC 9449); `required` takes no others. Default: `false`,
   * those are refused.
   */
  dpop?: boolean | 'required'
  /** Asks for a nonce of this server in each proof (RFC 9449, section 9). Default: `false`. */
  dpopNonce?: boolean
  /**
   * Finds the certificate of the caller, DER or PEM, for tokens that are bound to one (RFC 8705, section 3);
   * behind a proxy, from what that says. Default: that of the TLS connection.
   */
  clientCertificate?: (request: FastifyRequest) => Uint8Array | string | undefined
  /** The identifier in the metadata of the protected resource (RFC 9728). Default: `baseUrl`. */
  resource?: string
  /** The scopes in that metadata. Default: none. */
  scopes?: string[]
}

/**
 * Tokens of this application's own: an `access_token` is a JWT (RFC 9068), a `refresh_token` is opaque and
 * good once. Needs a `store`.
 */
export interface BrokerOptions {
  /** The `aud` of the access tokens. A federation has one. */
  audience: string
  /** The `iss` of the access tokens. Default: `baseUrl`. */
  issuer?: string
  /** How long an access token is good, in seconds. Default: 900 (15 minutes). */
  accessTokenTtl?: number
  /**
   * How long after the login refresh tokens are good, in seconds; without a refresh token of the provider,
   * which says whether the person is still welcome, no longer than `session.maxAge`. Default: 2592000 (30
   * days).
   */
  refreshTokenTtl?: number
  /** Default: `ES256`. */
  signingAlg?: 'ES256' | 'EdDSA' | 'RS256'
  /** After how long a new key signs, in seconds; it is published ten minutes before. Default: 7776000 (90 days). */
  keyLifetime?: number
  /** Other instances whose access tokens count here, for the same `audience`; a text is the `issuer`. */
  trustedIssuers?: Array<string | TrustedIssuer>
  /** Applications on a person's own machine (RFC 8252) may log people in. Default: they may not. */
  nativeClients?: NativeClientOptions
  /** Who may ask whether a token is good (RFC 7662): names, with secrets of at least 32 bytes. Default: nobody. */
  resourceServers?: Record<string, string>
  /**
   * Claims for the access token, from those of the person, as a refresh of the provider's tokens says them;
   * throwing refuses the token.
   */
  claims?: (
    claims: OidcClaims,
    context: IssueContext
  ) => Record<string, unknown> | void | Promise<Record<string, unknown> | void>
  /** Sees each access token before it is signed. Returns further claims; throwing refuses the token. */
  onIssue?: (
    payload: Record<string, unknown>,
    context: IssueContext
  ) => Record<string, unknown> | void | Promise<Record<string, unknown> | void>
}

export interface TrustedIssuer {
  issuer: string
  /** Default: `.well-known/jwks.json` below the issuer and `routes.prefix`. */
  jwksUri?: string
  /** `false` for instances of py-oidc-auth, whose tokens do not say what they are. Default: `true`. */
  strictType?: boolean
}

export interface NativeClientOptions {
  /** The `client_id`s that they may call themselves by. Default: none; then they do without. */
  clientIds?: string[]
  /**
   * Where a login may end beside loopback addresses, of which every port is allowed: https URLs, or those of
   * a scheme such as `com.example.app:`.
   */
  redirectUris?: string[]
  /**
   * `false` lets those in that cannot do PKCE, such as py-oidc-auth-client: whoever sees the redirect has
   * their tokens. Default: `true`.
   */
  pkceRequired?: boolean
}

/** For whom an access token is. */
export interface IssueContext {
  grantType: string
  clientId: string
  /** The provider that named the person. */
  provider: string
  request: FastifyRequest
}

/** What a guard asks of the person. */
export interface GuardOptions {
  /** All of these scopes must have been granted; a string is space-separated. */
  scopes?: string | string[]
  /** Claims by path, and the value, or one of the values, that each must have: `{ 'realm_access.roles': 'admin' }`. */
  claims?: Record<string, ClaimValue | ClaimValue[]>
  /** One of these roles, from the claims that `roleClaims` names. */
  roles?: string | string[]
  /** One of these authentication context classes. */
  acr?: string | string[]
  /** How long ago the person may have authenticated at the provider, in seconds. */
  maxAge?: number
  /**
   * The provider that must have authenticated the person, by name, or one of several, or the one that a
   * request asks for, such as its tenant. Default: any.
   */
  provider?: string | string[] | ((request: FastifyRequest) => string)
  /**
   * What a request may come with: a session, an access token of a person, an access token of a client.
   * Default: `['session', 'bearer']`, as far as `bearer` is configured.
   */
  accept?: Array<'session' | 'bearer' | 'client'>
  /** Whether whoever fulfils everything else may pass, for what the options above cannot say. */
  check?: (claims: OidcClaims, request: FastifyRequest) => boolean | Promise<boolean>
  /**
   * Refreshes the access token before the handler runs where it is due, and so ends the session of whom the
   * provider refuses. Default: `false`, when `accessToken()` is called.
   */
  refresh?: boolean
}

/** How an access token is to be. */
export interface AccessTokenOptions {
  /** Refreshes it whatever its time: an API has answered 401. Default: `false`, a little before it expires. */
  refresh?: boolean
}

/** What an `optional()` guard asks. */
export interface OptionalGuardOptions extends GuardOptions {
  /**
   * Asks the provider whether it knows the person, without showing anything (`prompt=none`), once in ten
   * minutes. Default: `false`.
   */
  silent?: boolean
}

export type ClaimValue = string | number | boolean

/** A login of its own kind (OpenID Connect Core 1.0, section 3.1.2.1). */
export interface LoginOptions {
  /** The provider, by name. Default: the only one; with several, the person chooses. */
  provider?: string
  /** Where the browser goes after the login. Default: `defaultReturnTo`. */
  returnTo?: string
  /** How long ago the person may have authenticated, in seconds (`max_age`). */
  maxAge?: number
  /** The requested authentication context classes (`acr_values`); the result is checked. */
  acrValues?: string[]
  /** With `none` the person comes back as they are when the provider would have to ask something. */
  prompt?: string
  /** `login_hint` */
  loginHint?: string
  /** `ui_locales`, space-separated. */
  uiLocales?: string
  /** The claims to ask for (section 5.5). */
  claims?: Record<string, unknown>
  audience?: string
  /** Resource indicators (RFC 8707), instead of those of the provider's options; kept for the refresh. */
  resource?: string | string[]
  /** Further parameters of the authorization request. */
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

/** What `resolveProvider` finds: `name` only where it was asked for none. */
export type ResolvedProvider = Partial<ProviderOptions> & { name?: string }

/**
 * The options of the plugin. One provider's stand beside the others; several are in `providers`, or found by
 * `resolveProvider`,
 * and what stands beside them then is what they have in common.
 */
export interface OidcOptions extends Partial<ProviderOptions> {
  /** The providers by name: each has its own `login` and `callback` below `{prefix}/{name}`. */
  providers?: Record<string, Partial<ProviderOptions>>
  /**
   * The provider of that name, for tenants that are known only at run time; `null` when there is none, or
   * none any more.
   * What it gives is kept for `resolveMaxAge`, by name. `name` is `undefined` when a login is to begin that
   * names no provider.
   */
  resolveProvider?: (
    request: FastifyRequest,
    name: string | undefined
  ) => ResolvedProvider | null | undefined | Promise<ResolvedProvider | null | undefined>
  /** After how many seconds `resolveProvider` is asked again. Default: 60. */
  resolveMaxAge?: number
  /** The public origin of the application, with a path if it is mounted under one. Never taken from a request. */
  baseUrl: string
  routes?: RouteOptions
  /** Where a login or logout without a (safe) `return_to` ends. Default: `/` below `baseUrl`. */
  defaultReturnTo?: string
  /**
   * A page of the application's own where people choose a provider; it gets `return_to`, and `provider` with
   * the names that will do. Default: a page of the plugin.
   */
  loginPage?: string
  /**
   * The parameters of a login that may be in the query of the login route, such as `login_hint` or
   * `ui_locales`. Default: none.
   */
  loginParams?: string[]
  /**
   * What several processes must know: used logins, ended sessions, refreshes under way. A Store, or an
   * address: `memory:`, `sqlite:./oidc.db`, `postgres://…`, `redis://…`. Default: each process knows its own.
   */
  store?: Store | string
  session: SessionOptions
  /** Takes access tokens (`Authorization: Bearer`) in guarded routes. Default: no, the header is not looked at. */
  bearer?: BearerOptions
  /** Issues tokens of this application's own, at `routes.token`. Default: no. */
  broker?: BrokerOptions
  /**
   * The claims, by path, that have roles. Default: `roles`, `groups`, `realm_access.roles`,
   * `resource_access.{clientId}.roles`.
   */
  roleClaims?: string[]
  /**
   * The claims to keep, by name, beside `iss` and `sub`. Default: all but the protocol's own (`nonce`,
   * `at_hash`, `exp` …).
   */
  claims?: string[]
  /** Turns the claims into the application's own type, kept as `request.oidcClaims`; throwing refuses the login. */
  parseClaims?: (claims: IdTokenClaims) => OidcClaims | Promise<OidcClaims>
  /**
   * Runs after every check and before the session exists. What it returns (JSON) is kept as `request.oidcUser`;
   * a login of a program (`broker`) has no session, and in a device flow `request` is that of the program; a
   * token exchange is no login, and asks `broker.claims` and `broker.onIssue` only;
   * throwing refuses the login, and sending a reply of its own replaces the login.
   */
  onClaims?: (
    claims: IdTokenClaims,
    context: ClaimsContext
  ) => OidcUser | null | undefined | void | Promise<OidcUser | null | undefined | void>
  /** Runs after a session has ended. */
  onLogout?: (session: OidcSession, context: LogoutContext) => void | Promise<void>
  /** Runs before an error is answered; a reply that it sends replaces the plugin's own. */
  onError?: (error: OidcError, context: ErrorContext) => void | Promise<void>
  /** Claims that every guarded route asks for, as in `required({ claims })`. */
  requiredClaims?: Record<string, ClaimValue | ClaimValue[]>
  /**
   * `false` turns telemetry off; by default the global tracer and meter of `@opentelemetry/api`, when that is
   * installed.
   */
  telemetry?: false | { tracer?: Tracer, meter?: Meter }
  /**
   * Allows http for `baseUrl` and the provider on loopback addresses; refused when NODE_ENV is `production`.
   * Default: `false`.
   */
  allowInsecureLoopback?: boolean
}
