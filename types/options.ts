import type { FastifyReply, FastifyRequest, RegisterOptions } from 'fastify'
import type { KeyObject } from 'node:crypto'
import type { JWK } from 'jose'
import type { IdTokenClaims, OidcClaims, OidcSession, OidcTokens, OidcUser, UserinfoClaims } from './claims.ts'
import type { OidcError } from '../lib/errors.ts'
import type { OidcPage, PageLanguage, PageMessages } from './pages.ts'
import type { Store } from './store.ts'

/** The metadata of a provider (OpenID Connect Discovery 1.0, section 3), for the option `metadata`. */
export interface ProviderMetadata {
  issuer: string
  authorization_endpoint: string
  token_endpoint: string
  jwks_uri: string
  userinfo_endpoint?: string
  end_session_endpoint?: string
  revocation_endpoint?: string
  introspection_endpoint?: string
  /** The `iss` of access tokens, where it is not `issuer` (AD FS). */
  access_token_issuer?: string
  pushed_authorization_request_endpoint?: string
  require_pushed_authorization_requests?: boolean
  authorization_response_iss_parameter_supported?: boolean
  /** The endpoints to use with a client certificate, instead of those above (RFC 8705, section 5). */
  mtls_endpoint_aliases?: Record<string, string>
  [parameter: string]: unknown
}

/** How the client authenticates at the provider (OpenID Connect Core 1.0, section 9; RFC 8705, section 2.1). */
export type ClientAuth =
  | 'client_secret_basic'
  | 'client_secret_post'
  | 'client_secret_jwt'
  | 'private_key_jwt'
  | 'tls_client_auth'
  | 'none'

/**
 * A private key: a JWK, a PEM text or a KeyObject.
 *
 * The `kid`, `x5t` and `x5t#S256` of a JWK are put into the header of what it signs. Its `alg` selects the algorithm.
 * Without `alg`, an RSA key uses `RS256` to sign and `RSA-OAEP` to decrypt; for other keys the curve determines it.
 */
export type ClientKey = JWK | KeyObject | string

/**
 * A value, or a function that returns the value. The function is called each time the value is needed, so the value can
 * change while the application runs. When the function throws, or takes longer than `timeout`, the request fails with
 * `FST_OIDC_PROVIDER_UNAVAILABLE`.
 */
export type Rotatable<T> = T | (() => T | Promise<T>)

/** How the provider encrypts for this client (OpenID Connect Dynamic Client Registration 1.0, section 2). */
export interface Encryption {
  /**
   * The key encryption algorithm, as registered: `id_token_encrypted_response_alg` or
   * `userinfo_encrypted_response_alg`.
   */
  alg:
    | 'RSA-OAEP'
    | 'RSA-OAEP-256'
    | 'RSA-OAEP-384'
    | 'RSA-OAEP-512'
    | 'ECDH-ES'
    | 'ECDH-ES+A128KW'
    | 'ECDH-ES+A192KW'
    | 'ECDH-ES+A256KW'
  /**
   * The content encryption algorithm, as registered: `id_token_encrypted_response_enc` or
   * `userinfo_encrypted_response_enc`. Default: `A128CBC-HS256`.
   */
  enc?: 'A128CBC-HS256' | 'A192CBC-HS384' | 'A256CBC-HS512' | 'A128GCM' | 'A192GCM' | 'A256GCM'
}

/** An OpenID Provider and the client registered there. One of `issuer`, `discoveryUrl` and `metadata` is required. */
export interface ProviderOptions {
  /** The name that the page shows where the user chooses a provider. Default: the name of the provider. */
  label?: string
  /**
   * The issuer identifier, an https URL, exactly as the provider writes it. The plugin fetches the metadata from
   * `{issuer}/.well-known/openid-configuration` (OpenID Connect Discovery 1.0, section 4).
   */
  issuer?: string
  /**
   * The URL of the metadata, when it is not below `issuer`. Needs `issuer` or `expectedIssuer` as well, unless it has
   * the form `{issuer}/.well-known/openid-configuration`.
   */
  discoveryUrl?: string
  /**
   * Members of the metadata. They win over those that the provider publishes, for what is missing or wrong there, such
   * as `introspection_endpoint`. With all that are required (`issuer`, `authorization_endpoint`, `token_endpoint`,
   * `jwks_uri`), nothing is fetched. An `issuer` must be the same as that of the other options.
   */
  metadata?: Partial<ProviderMetadata>
  /** The identifier of the client at the provider. */
  clientId: string
  /** The secret of the client. Required by the methods `client_secret_*` of `clientAuth`, and not allowed otherwise. */
  clientSecret?: Rotatable<string>
  /**
   * How the client authenticates at the provider. `tls_client_auth` needs a `dispatcher` with the client certificate;
   * it uses the `mtls_endpoint_aliases` of the metadata. Default: `client_secret_basic` with a `clientSecret`,
   * `private_key_jwt` with a `clientKey`, otherwise `none`.
   */
  clientAuth?: ClientAuth
  /** The key that signs client assertions. Required by `private_key_jwt`, and not allowed otherwise. */
  clientKey?: Rotatable<ClientKey>
  /**
   * How `client_secret_basic` sends `clientId` and `clientSecret`: `form` encodes them (RFC 6749, section 2.3.1), `raw`
   * does not, for a server that never decodes them. Identifiers and secrets of letters, digits and `-._*` are the same
   * in both. Default: `form`.
   */
  basicEncoding?: 'form' | 'raw'
  /**
   * The `aud` of the assertions for `private_key_jwt` and `client_secret_jwt`, for a provider that requires another
   * value than its issuer, such as the URL of its token endpoint. Default: the issuer.
   */
  clientAssertionAudience?: string
  /** The scopes to request, separated by spaces. Must contain `openid`. Default: `openid profile email`. */
  scope?: string
  /**
   * Requests a refresh token: adds `offline_access` to the scope and sends `prompt=consent` (OpenID Connect Core 1.0,
   * section 11). Default: `false`.
   */
  offlineAccess?: boolean
  /** The parameter `audience` of authorization requests, which some providers need. Default: not sent. */
  audience?: string
  /**
   * Resource indicators, absolute URIs without a fragment (RFC 8707). Sent with authorization and token requests.
   * Default: none.
   */
  resource?: string | string[]
  /** More parameters of authorization requests. Must not contain a parameter that the plugin sets. Default: none. */
  authorizationParams?: Record<string, string>
  /**
   * Sends the authorization parameters directly to the provider; the browser carries only a reference (RFC 9126).
   * Default: `true` when the metadata has `require_pushed_authorization_requests`, otherwise `false`.
   */
  pushedAuthorizationRequests?: boolean
  /**
   * How the provider returns its response: `query` in a redirect, or `form_post` in a form that the browser posts
   * (OAuth 2.0 Form Post Response Mode). `form_post` needs an https `baseUrl`. Default: `query`.
   */
  responseMode?: 'query' | 'form_post'
  /**
   * The algorithm that signs ID tokens, as registered for the client. An ID token with another algorithm is rejected.
   * Default: `RS256`.
   */
  idTokenSigningAlg?: SigningAlgorithm
  /**
   * ID tokens are encrypted in this way. An ID token that is not is rejected. Needs a `decryptionKey`. Default: not
   * encrypted.
   */
  idTokenEncryption?: Encryption
  /**
   * UserInfo responses are JWTs signed with this algorithm (OpenID Connect Core 1.0, section 5.3.2). Any other response
   * is rejected. Default: JSON without a signature.
   */
  userinfoSigningAlg?: SigningAlgorithm
  /**
   * UserInfo responses are encrypted in this way. A response that is not is rejected. Needs a `decryptionKey`. Default:
   * not encrypted.
   */
  userinfoEncryption?: Encryption
  /**
   * The private key that decrypts, or up to 10 keys while they rotate. Required by `idTokenEncryption` and
   * `userinfoEncryption`, and not allowed otherwise.
   */
  decryptionKey?: Rotatable<ClientKey | ClientKey[]>
  /**
   * Audiences that an ID token may have in addition to `clientId`: a list, a function that returns `true` for each that
   * is trusted, or `'*'` for all. The `azp` of such a token must be `clientId`, in any case. When the function throws,
   * or takes longer than `timeout`, the login fails with `FST_OIDC_UNEXPECTED`. Default: none.
   */
  trustedAudiences?: string[] | ((audience: string) => boolean | Promise<boolean>) | '*'
  /**
   * Whether an ID token must have `auth_time` when the login asked for a recent one (`max_age`). With `optional`, it
   * may be missing after a login with `prompt=login`, and the time of that login counts: for a provider that ignores
   * `max_age` and has no `auth_time`, but does ask the user again when it gets `prompt=login`. An `auth_time` that is
   * older than `max_age` is never accepted. Default: `required`.
   */
  authTime?: 'required' | 'optional'
  /** The URL of the provider's keys, instead of the `jwks_uri` of the metadata. */
  jwksUri?: string
  /**
   * The issuer that the metadata and the tokens must name, when it differs from the one configured. Default: `issuer`.
   */
  expectedIssuer?: string
  /**
   * The `iss` of the provider's access tokens, when it is not its issuer, as at AD FS and Microsoft Entra ID v1. They
   * are verified with the keys of this provider. No other provider, nor the broker or a trusted issuer, may have this
   * name. Default: the `access_token_issuer` of the metadata, else the issuer.
   */
  accessTokenIssuer?: string
  /**
   * The clients whose access tokens belong to this provider, by `client_id` or `azp`. Access tokens of other clients
   * are rejected. Needed when several providers have one issuer and their own clients do not tell them apart. Default:
   * all clients or, when several providers have the issuer, `clientId`.
   */
  clientIds?: string[]
  /**
   * Fetches UserInfo at each login and keeps its claims with those of the ID token. When both have a claim, that of the
   * ID token counts. Default: `false`.
   */
  userinfo?: boolean
  /**
   * Where the claims that `roleClaims` names come from. When several sources have the same claim, the first in this
   * list counts. These sources are asked at each login and at each refresh: what they say then replaces what they said
   * before, so a role that was taken away goes.
   *
   * - `id_token`: the ID token.
   * - `userinfo`: UserInfo. Without the option `userinfo`, nothing but these claims is taken from it.
   * - `access_token`: the access token, if it is a JWT that the provider issued to this client for this user. Nothing
   *   but these claims is taken from it. If it is anything else, the login goes on without it, and the log says why.
   *
   * Default: the ID token and, with the option `userinfo`, UserInfo. The claims of a session then stay those of its
   * login.
   */
  rolesFrom?: ClaimSource[]
  /**
   * When the metadata is fetched. `eager`: at start, and the application does not start without it. `lazy`: when it is
   * first needed. Default: `lazy`.
   */
  discovery?: 'lazy' | 'eager'
  /** How much the clocks of the provider and the application may differ, in seconds, at most 300. Default: 30. */
  clockTolerance?: number
  /**
   * The `fetch` function for calls to the provider. Default: the HTTP client of Node.js, or the global `fetch` where it
   * was replaced or given a dispatcher, and in Bun and Deno.
   */
  fetch?: Fetch
  /**
   * The undici dispatcher that sends the calls to the provider, for proxies and TLS settings. With `fetch` it is given
   * to that function. Default: none.
   */
  dispatcher?: Dispatcher
  /**
   * How long one call to the provider may take, including its body, in seconds, at most 120. The same holds for the
   * functions that the plugin calls because of the provider: `resolveProvider`, `clientSecret`, `clientKey`,
   * `decryptionKey` and `trustedAudiences`. Default: 5.
   */
  timeout?: number
  /** The largest response that the plugin reads, in bytes, 1024 to 67108864. Default: 1048576 (1 MiB). */
  maxResponseBytes?: number
}

/** A source of claims about a user. */
export type ClaimSource = 'id_token' | 'userinfo' | 'access_token'

/** An algorithm that signs tokens, always asymmetric (RFC 7518, section 3.1; RFC 8037; RFC 9864). */
export type SigningAlgorithm =
  | 'RS256' | 'RS384' | 'RS512'
  | 'PS256' | 'PS384' | 'PS512'
  | 'ES256' | 'ES384' | 'ES512'
  | 'EdDSA' | 'Ed25519'

/**
 * The path of each route, below `prefix`. `false` leaves a route out.
 *
 * With several providers, `login` and `callback`, `initiateLogin`, `backchannelLogout` and `frontchannelLogout` exist
 * once for each provider, below `{prefix}/{provider}`.
 */
export interface RouteOptions {
  /** The path that all routes are below. Default: `/auth`. */
  prefix?: string
  /** Starts a login. Default: `login`. */
  login?: string | false
  /**
   * Completes a login. Register `{baseUrl}{prefix}/{callback}` at the provider as `redirect_uri`. Default: `callback`.
   */
  callback?: string
  /**
   * Starts a login on behalf of the provider or a portal (OpenID Connect Core 1.0, section 4). Register it at the
   * provider as `initiate_login_uri`. Default: `false`.
   */
  initiateLogin?: string | false
  /** Logs the user out. Default: `logout`. */
  logout?: string | false
  /**
   * Receives the browser after a logout at the provider. Register it there as `post_logout_redirect_uri`. Default:
   * `logged-out`.
   */
  loggedOut?: string | false
  /**
   * Receives logout tokens from the provider (OpenID Connect Back-Channel Logout 1.0). Register it there as
   * `backchannel_logout_uri`. Default: `backchannel-logout`.
   */
  backchannelLogout?: string | false
  /**
   * Logs out in an iframe of the provider (OpenID Connect Front-Channel Logout 1.0). Register it there as
   * `frontchannel_logout_uri`. Browsers send the session cookie to a provider's iframe only with `session.sameSite`
   * `none`, unless the provider is on the same site. Default: `frontchannel-logout`.
   */
  frontchannelLogout?: string | false
  /**
   * Returns the current claims of the user as JSON, from the UserInfo endpoint of the provider. For an access token:
   * `sub`, `username`, `first_name`, `last_name`, `pw_name` and `email`, from the claims of the token. Default:
   * `userinfo`.
   */
  userinfo?: string | false
  /**
   * Returns the claims and times of the session as JSON, for a front end, or 401. Does not extend the idle time.
   * Default: `session`.
   */
  session?: string | false
  /**
   * The token endpoint (RFC 6749, section 3.2). Without a `broker`, it returns the tokens of the provider to a program
   * that sends a code or a refresh token of this client. Default: `token` with a `broker`, otherwise `false`.
   */
  token?: string | false
  /** Starts a device login (RFC 8628, section 3.1). Default: `device` with a `broker`, otherwise `false`. */
  device?: string | false
  /** The revocation endpoint (RFC 7009). Only with a `broker`. Default: `revoke`. */
  revoke?: string | false
  /**
   * The introspection endpoint (RFC 7662), for the `resourceServers` of the `broker`. Only with a `broker`. Default:
   * `introspect`.
   */
  introspect?: string | false
  /** The public keys of the `broker` (RFC 7517). Only with a `broker`. Default: `.well-known/jwks.json`. */
  jwks?: string | false
}

/** A key of 32 bytes, as base64 or as bytes. */
export type SessionKey = string | Uint8Array

/** The session and its cookies. Exactly one of `key` and `secret` is required. */
export interface SessionOptions {
  /**
   * 32 random bytes that encrypt the session. With an array, the first key encrypts and all keys decrypt: to rotate,
   * put the new key first.
   */
  key?: SessionKey | SessionKey[]
  /** A text of at least 32 bytes from which the key is derived. An array rotates in the same way as `key`. */
  secret?: string | string[]
  /**
   * The base name of the cookies, at most 40 characters. On https, the prefix `__Host-` is added. Default: `oidc`,
   * followed by the path of `baseUrl` and by the prefix of the routes when that is not `/auth`. A port in `baseUrl` is
   * a part of it too.
   */
  cookieName?: string
  /** The longest lifetime of a session, in whole seconds, at most 34560000 (400 days). Default: 28800 (8 hours). */
  maxAge?: number
  /**
   * How long a session lives without a request to a guarded route, in seconds. It is never longer than `maxAge`.
   * Default: 3600 (1 hour).
   */
  idleTimeout?: number
  /**
   * The `SameSite` attribute of the cookies. With `strict`, a login that starts from a link on another site neither
   * sees nor ends the existing session of the browser. `none` needs an https `baseUrl`. Default: `lax`.
   */
  sameSite?: 'lax' | 'strict' | 'none'
  /** Which tokens are kept, for `app.oidc.accessToken()`, UserInfo and the logout hint. Default: all three. */
  tokens?: Array<'access_token' | 'refresh_token' | 'id_token'>
  /**
   * Keeps sessions in the `store`. The cookie then has no tokens and is useless without the store. Needs a `store`.
   * Default: `false`.
   */
  store?: boolean
  /**
   * How long a process trusts the last answer of the store about a session, in seconds, at most 3600. Until then, a
   * session that ended in another process still works in this one. Default: 0, the store is asked with every request.
   */
  recheckAfter?: number
  /**
   * Origins, in addition to that of `baseUrl`, whose pages may send requests with the session cookie by other methods
   * than GET, HEAD, OPTIONS and TRACE. Default: none.
   */
  trustedOrigins?: string[]
}

/** The second argument of `onClaims`. */
export interface ClaimsContext {
  /** The name of the provider. */
  provider: string
  /** The tokens that the provider issued. */
  tokens: OidcTokens
  /**
   * Fetches the claims of the UserInfo endpoint and checks that their `sub` equals that of the ID token (OpenID Connect
   * Core 1.0, section 5.3.2).
   *
   * @throws OidcError `FST_OIDC_USERINFO` when a check failed, `FST_OIDC_PROVIDER_UNAVAILABLE` when the provider does
   * not answer
   */
  userinfo: () => Promise<UserinfoClaims>
  /** Where the browser goes after the login: an absolute URL on the origin of the application. */
  returnTo: string
  /**
   * Sends the browser there instead of to `returnTo`, with the session that the login began: a path, or a URL on the
   * origin of `baseUrl`, such as the page that welcomes a new user. The last call counts. At the login of a program
   * (`broker`: a native application, a device) it has no effect, because such a login leads back to the program.
   *
   * @throws TypeError when the address is not on the origin of `baseUrl`. Unless it is caught, the login fails with
   * `FST_OIDC_UNEXPECTED` (500)
   */
  redirectTo: (target: string) => void
  /** The `appState` that `app.oidc.login` got for this login. `undefined` at every other login. */
  appState: unknown
  request: FastifyRequest
  reply: FastifyReply
}

/** The second argument of `onLogout`. */
export interface LogoutContext {
  /**
   * Why the session ended.
   *
   * - `logout`: the user logged out.
   * - `login`: a new login in the same browser replaced the session.
   * - `refresh_failed`: the provider refused to refresh the tokens.
   * - `backchannel`, `frontchannel`: the provider reported a logout.
   * - `revoked`: `app.oidc.sessions.revoke` was called.
   */
  reason: 'logout' | 'login' | 'refresh_failed' | 'backchannel' | 'frontchannel' | 'revoked'
  /** The request that ended its own session, or `null` when the session was ended from outside. */
  request: FastifyRequest | null
}

/** The second argument of `onError`. */
export interface ErrorContext {
  request: FastifyRequest
  reply: FastifyReply
}

/** The pages that the plugin shows: errors, the choice of a provider, the question before a logout, and others. */
export interface PageOptions {
  /** The name of the application, above each page and in its title. Default: none. */
  name?: string
  /**
   * An image above each page, as a `data:` URI of at most 100,000 characters: the pages load nothing. Its text for
   * screen readers is `name` or, without one, the host of `baseUrl`. Default: none.
   */
  logo?: string
  /** The colours: `auto` takes those of the user's system. Default: `auto`. */
  theme?: 'light' | 'dark' | 'auto'
  /**
   * The language of all pages. Default: that of the browser (`Accept-Language`), and English where none of its
   * languages is there.
   */
  language?: PageLanguage
  /**
   * Texts that replace those of the plugin: `{ logOut: 'Sign out' }` in all languages, and `{ de: { logOut: '…' } }` in
   * one, which wins. JSON and the log keep the messages of the codes. Default: none.
   */
  messages?: PageMessages
  /**
   * Renders the whole page as HTML. It must escape what it shows. When it throws or returns anything but a non-empty
   * string, the log has an error, and the page of the plugin is sent. Default: none.
   */
  render?: (page: OidcPage) => string | Promise<string>
}

/** Which access tokens guarded routes accept (RFC 6750). */
export interface BearerOptions {
  /** The identifiers of this API. The `aud` of a token must contain one of them (RFC 9068, section 4). */
  audience: string | string[]
  /** The algorithms that may sign a JWT. Default: `RS256`, `PS256`, `ES256`, `EdDSA` and `Ed25519`. */
  algorithms?: SigningAlgorithm[]
  /**
   * Requires that a JWT is marked as an access token, by the `typ` `at+jwt` and the claims of RFC 9068.
   *
   * `false` is for providers that do not mark their access tokens: a JWT is then accepted when it has a sign of an
   * access token and no sign of an ID token. Default: `true`.
   */
  strictType?: boolean
  /**
   * Asks the provider about tokens that are not JWTs (RFC 7662). With one provider: `true`. With several: the name of
   * the provider to ask. Default: `false`, such tokens are rejected.
   */
  introspection?: boolean | string
  /** How long an introspection response is reused, in seconds, at most 300, and never after `exp`. Default: 10. */
  introspectionMaxAge?: number
  /**
   * Whether an introspection response must say for whom the token is: by one of `audience`, or without any `aud` by the
   * `client_id` of this application. `'optional'` also accepts responses without `aud` and without `token_type`, such
   * as those of Django OAuth Toolkit. Every token of the provider is then accepted, whichever client and API it is for,
   * and the plugin cannot tell a refresh token from an access token. Default: `'required'`.
   */
  introspectionAudience?: 'required' | 'optional'
  /**
   * The identifiers of clients that get tokens for themselves (RFC 6749, section 4.4), for providers whose tokens have
   * no sign of that. A token is of such a client when it was issued to that client and names no other subject. List
   * only clients that no user logs in with. Default: none.
   */
  clients?: string[]
  /**
   * Accepts tokens that are bound to a key (DPoP, RFC 9449). `'required'` accepts only those. Default: `false`, they
   * are rejected.
   */
  dpop?: boolean | 'required'
  /** Requires a nonce of this server in each DPoP proof (RFC 9449, section 9). Default: `false`. */
  dpopNonce?: boolean
  /**
   * Returns the client certificate of a request, DER or PEM, for tokens that are bound to one (RFC 8705, section 3).
   * Behind a proxy that terminates TLS, read it from the header that the proxy sets. Default: the certificate of the
   * TLS connection.
   */
  clientCertificate?: (request: FastifyRequest) => Uint8Array | string | undefined
  /** The identifier of this API in its protected resource metadata (RFC 9728), an https URL. Default: `baseUrl`. */
  resource?: string
  /** The scopes in the protected resource metadata. Default: none. */
  scopes?: string[]
}

/**
 * Tokens that this application issues to programs. The access token is a JWT (RFC 9068). The refresh token is opaque;
 * each use replaces it with a new one. Needs a `store`.
 */
export interface BrokerOptions {
  /** The `aud` of the access tokens. Applications that trust each other's tokens share one. */
  audience: string
  /** The `iss` of the access tokens, an https URL. Default: `baseUrl`. */
  issuer?: string
  /** The lifetime of access tokens, in seconds, at most 86400 (1 day). Default: 900 (15 minutes). */
  accessTokenTtl?: number
  /**
   * How long refresh tokens can be used after the login, in seconds, at most 34560000 (400 days). When the provider
   * issued no refresh token, the plugin cannot ask whether the user still has access: the limit is then
   * `session.maxAge`, if that is shorter. Default: 2592000 (30 days).
   */
  refreshTokenTtl?: number
  /** The algorithm that signs access tokens. Default: `ES256`. */
  signingAlg?: 'ES256' | 'EdDSA' | 'RS256'
  /**
   * How long a key signs before a new one takes over, in seconds, 3600 (1 hour) to 315360000 (3650 days). A new key is
   * published ten minutes before it signs. Default: 7776000 (90 days).
   */
  keyLifetime?: number
  /**
   * Other issuers whose access tokens are accepted, when they have the same `audience`. A string is the `issuer`.
   * Default: none.
   */
  trustedIssuers?: Array<string | TrustedIssuer>
  /** Allows logins of native applications: programs on the user's own computer (RFC 8252). Default: not allowed. */
  nativeClients?: NativeClientOptions
  /**
   * The resource servers that may use the introspection endpoint (RFC 7662): their names, and their secrets of at least
   * 32 bytes. Default: none.
   */
  resourceServers?: Record<string, string>
  /**
   * Returns more claims for the access token, from the claims of the user. After a refresh, these are the claims that
   * the provider sent with the refresh. When it throws, no token is issued.
   */
  claims?: (
    claims: OidcClaims,
    context: IssueContext
  ) => Record<string, unknown> | void | Promise<Record<string, unknown> | void>
  /**
   * Called with the claims of each access token before it is signed. Returns more claims. When it throws, no token is
   * issued.
   */
  onIssue?: (
    payload: Record<string, unknown>,
    context: IssueContext
  ) => Record<string, unknown> | void | Promise<Record<string, unknown> | void>
}

/** Another application whose access tokens are accepted. */
export interface TrustedIssuer {
  /** The `iss` of its access tokens, an https URL. */
  issuer: string
  /** The URL of its public keys. Default: `{issuer}{prefix}/.well-known/jwks.json`, with the own `routes.prefix`. */
  jwksUri?: string
  /**
   * Requires that a token is marked as an access token (RFC 9068). `false` for instances of py-oidc-auth, which does
   * not mark its tokens. Default: `true`.
   */
  strictType?: boolean
}

/** Which native applications may log users in. */
export interface NativeClientOptions {
  /** The `client_id`s that are accepted. Default: none; a native application then sends no `client_id`. */
  clientIds?: string[]
  /**
   * The redirect URIs that are accepted, in addition to loopback addresses with any port: https URLs, or URLs with a
   * private scheme such as `com.example.app:` (RFC 8252, section 7). Default: none.
   */
  redirectUris?: string[]
  /**
   * Requires PKCE (RFC 7636). `false` also admits programs without PKCE, such as py-oidc-auth-client: an attacker who
   * sees their redirect can then get their tokens. Default: `true`.
   */
  pkceRequired?: boolean
}

/** The second argument of `broker.claims` and `broker.onIssue`: for which request an access token is issued. */
export interface IssueContext {
  /** The `grant_type` of the token request. */
  grantType: string
  /** The client that gets the token. */
  clientId: string
  /** The name of the provider that authenticated the user. */
  provider: string
  request: FastifyRequest
}

/** The constraints of a guard. A request must meet all of them. */
export interface GuardOptions {
  /** Scopes that must all be granted. A string is a list separated by spaces. Default: none. */
  scopes?: string | string[]
  /**
   * Required claims: a name, or a path with dots, and the value that the claim must have. With an array, one of its
   * values. Default: none.
   *
   * @example { 'realm_access.roles': 'admin' }
   */
  claims?: Record<string, ClaimValue | ClaimValue[]>
  /** Roles of which the user must have one, in one of the claims that `roleClaims` names. Default: none. */
  roles?: string | string[]
  /**
   * Authentication context classes of which the session or token must have one (`acr`). A user who does not meet it
   * must log in again. Default: any.
   */
  acr?: string | string[]
  /**
   * How long ago the user may have authenticated at the provider, in whole seconds. A user who does not meet it must
   * log in again. Default: any time.
   */
  maxAge?: number
  /**
   * The provider that must have authenticated the user: one name, several, or a function that returns the name for a
   * request, for example its tenant. A session of another provider counts as no session. Default: any provider.
   */
  provider?: string | string[] | ((request: FastifyRequest) => string)
  /**
   * Which credentials the route accepts: `session`, `bearer` (an access token of a user), `client` (an access token of
   * a client without a user). Default: `['session', 'bearer']`; without the option `bearer` or `broker`, `['session']`.
   */
  accept?: Array<'session' | 'bearer' | 'client'>
  /**
   * A check of your own, called when all other constraints are met. The request may pass only
   * when it returns `true`; anything else is answered with 403. What it throws is answered as an error of the
   * application. Default: none.
   */
  check?: (claims: OidcClaims, request: FastifyRequest) => boolean | Promise<boolean>
  /**
   * Refreshes the access token before the handler runs, when it is due. If the provider refuses, the user must log in
   * again. Default: `false`, the token is refreshed when `app.oidc.accessToken()` is called.
   */
  refresh?: boolean
}

/** Options of `app.oidc.accessToken`. */
export interface AccessTokenOptions {
  /**
   * Refreshes the token even if it has not expired, for example after an API answered 401. Default: `false`, it is
   * refreshed when it expires within 30 seconds.
   */
  refresh?: boolean
}

/** The constraints of an `optional()` guard. */
export interface OptionalGuardOptions extends GuardOptions {
  /**
   * Checks, without showing a page, whether the user is logged in at the provider (`prompt=none`), at most once in ten
   * minutes. Only when a page is opened. Default: `false`.
   */
  silent?: boolean
}

/** A value that a claim is compared with. */
export type ClaimValue = string | number | boolean

/** Options of `app.oidc.login`, for one login (OpenID Connect Core 1.0, section 3.1.2.1). */
export interface LoginOptions {
  /** The name of the provider. Default: the only one; with several, the user chooses. */
  provider?: string
  /**
   * Where the browser goes after the login: a path or URL on the origin of `baseUrl`. Any other URL is replaced by
   * `defaultReturnTo`. Default: `defaultReturnTo`.
   */
  returnTo?: string
  /** How long ago the user may have authenticated, in whole seconds (`max_age`). The result is checked. */
  maxAge?: number
  /** The requested authentication context classes (`acr_values`). The result is checked. */
  acrValues?: string[]
  /**
   * The parameter `prompt`. With `none`, the provider shows no page: if it would have to, the browser comes back
   * without a new login.
   */
  prompt?: string
  /** The parameter `login_hint`. */
  loginHint?: string
  /** The parameter `ui_locales`: languages separated by spaces. */
  uiLocales?: string
  /** The parameter `claims`, as an object (OpenID Connect Core 1.0, section 5.5). */
  claims?: Record<string, unknown>
  /** The parameter `audience`. Default: the `audience` of the provider's options. */
  audience?: string
  /**
   * Resource indicators (RFC 8707), used again when the tokens are refreshed. Default: the `resource` of the provider's
   * options.
   */
  resource?: string | string[]
  /** More parameters of the authorization request. Must not contain a parameter that the plugin sets. */
  authorizationParams?: Record<string, string>
  /**
   * What the application wants to know again when this login has succeeded, such as the code of an invitation:
   * `onClaims` gets it as `context.appState`. Any JSON value of at most 128 bytes. It is encrypted in the `state`, so
   * each of several logins at the same time has its own, and only the browser that began the login can use it. A larger
   * one is refused with `FST_OIDC_OPTION`. Default: none.
   */
  appState?: unknown
}

/** Options of `app.oidc.logout`. */
export interface LogoutOptions {
  /** Where the browser goes after the logout: a path or URL on the origin of `baseUrl`. Default: `defaultReturnTo`. */
  returnTo?: string
  /** Also ends the session at the provider. Default: `true`. */
  federated?: boolean
}

/** A function with the interface of `fetch` (WHATWG Fetch). It makes every call to a provider. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>

/** An undici dispatcher, for example a `ProxyAgent`, or an `Agent` with its own CA or a client certificate. */
export interface Dispatcher {
  dispatch: (...parameters: never[]) => boolean
}

/** A tracer of OpenTelemetry, as `trace.getTracer` of `@opentelemetry/api` returns it. */
export interface Tracer {
  startActiveSpan: (...parameters: never[]) => unknown
}

/** A meter of OpenTelemetry, as `metrics.getMeter` of `@opentelemetry/api` returns it. */
export interface Meter {
  createCounter: (...parameters: never[]) => unknown
  /** Without this and the next one, the plugin counts, and measures no times. */
  createHistogram?: (...parameters: never[]) => unknown
  createObservableGauge?: (...parameters: never[]) => unknown
}

/**
 * The options of one tenant, as `resolveProvider` returns them. `name` says which tenant it is, when `resolveProvider`
 * was called without a name.
 */
export type ResolvedProvider = Partial<ProviderOptions> & { name?: string }

/** What Fastify takes for each registration, and @fastify/autoload and fastify-cli add to it. */
export interface RegistrationOptions {
  /** A path before `routes.prefix`: with `/v1`, the routes are below `/v1/auth`. Default: none. */
  prefix?: string
  /** The level at which Fastify logs requests of the plugin's routes, as for a plugin with its own scope. */
  logLevel?: NonNullable<RegisterOptions['logLevel']>
  /**
   * How Fastify logs values in requests of the plugin's routes. `req` stays that of the plugin, which leaves out the
   * query: it holds codes.
   */
  logSerializers?: NonNullable<RegisterOptions['logSerializers']>
  /** Has no effect: the plugin always adds `app.oidc` to the scope that registers it. */
  encapsulate?: boolean
}

/**
 * The options of the plugin. An unknown, missing or wrong option makes the registration fail with an `OidcError`
 * `FST_OIDC_OPTION` that names it.
 *
 * With one provider, its `ProviderOptions` are set here. With several, they are in `providers` or come from
 * `resolveProvider`; a provider option that is set here is then the default for all of them.
 */
export interface OidcOptions extends Partial<ProviderOptions>, RegistrationOptions {
  /**
   * Several providers, by name. A name has letters, digits, `.`, `_` and `-`, at most 64. The routes of each provider
   * are below `{prefix}/{name}`.
   */
  providers?: Record<string, Partial<ProviderOptions>>
  /**
   * Finds a provider at run time, for multi-tenant applications. Returns its options, or `null` when there is no such
   * tenant. The result is cached for `resolveMaxAge`. Not together with `providers`.
   *
   * It is called with `undefined` as name when a login does not name a provider. It may then return `{ name }`.
   *
   * When it throws, or takes longer than `timeout`, tenants that are cached work for ten more minutes; other requests
   * fail with `FST_OIDC_PROVIDER_UNAVAILABLE`.
   */
  resolveProvider?: (
    request: FastifyRequest,
    name: string | undefined
  ) => ResolvedProvider | null | undefined | Promise<ResolvedProvider | null | undefined>
  /** How long a result of `resolveProvider` is cached, in seconds, at most 86400 (1 day). Default: 60. */
  resolveMaxAge?: number
  /**
   * The public URL of the application: its origin, and the path when it is mounted below one. An https URL, or
   * http on a loopback address in development. The plugin never takes it from a request, because a client can send any
   * `Host` header.
   */
  baseUrl: string
  /** The paths of the plugin's routes. */
  routes?: RouteOptions
  /**
   * Where the browser goes after a login or logout without a valid `return_to`: a path or URL on the origin of
   * `baseUrl`. Default: `/` below `baseUrl`.
   */
  defaultReturnTo?: string
  /**
   * Your own page where the user chooses a provider: a path or URL on the origin of `baseUrl`. Its query has
   * `return_to`, and `provider` with the names to choose from, separated by spaces, when the route does not accept all.
   * Its links to the logins must pass on `return_to` and, where the query has it, `step_up`. Default: a page of the
   * plugin.
   */
  loginPage?: string
  /**
   * The authorization parameters that the query of the login route may set, such as `login_hint` or `ui_locales`.
   * Default: none.
   */
  loginParams?: string[]
  /**
   * Where processes share state: used logins, ended sessions, refreshes in progress. A `Store`, or an address that
   * begins with `memory:`, `sqlite:`, `postgres:` or `redis:`, for example `sqlite:./oidc.db`. Default: none, each
   * process has its own state in memory.
   */
  store?: Store | string
  /** The session and its cookies. */
  session: SessionOptions
  /**
   * Accepts access tokens (`Authorization: Bearer`) in guarded routes. Default: not accepted; with a `broker`, only the
   * tokens that it issues.
   */
  bearer?: BearerOptions
  /** Issues tokens to programs, at `routes.token`. Default: no tokens are issued. */
  broker?: BrokerOptions
  /**
   * The claims that contain roles: names, or paths with dots. `{clientId}` stands for the `clientId` of the provider. A
   * claim is a role, an array of roles, or an object whose keys are the roles, except those with the value `false` or
   * `null`. Default: `roles`, `groups`, `realm_access.roles` and `resource_access.{clientId}.roles`.
   */
  roleClaims?: string[]
  /**
   * The names of the claims that the session keeps, in addition to `iss` and `sub`. Default: all claims except those of
   * the protocol, such as `nonce`, `at_hash` and `exp`.
   */
  claims?: string[]
  /**
   * Validates the claims and returns those to keep as `request.oidcClaims`. Replaces the option `claims`.
   *
   * `throw refuse('…')` refuses the login with `FST_OIDC_CLAIMS`. Any other error is a fault: see `onClaims`.
   *
   * With `rolesFrom`, it also runs after each refresh, with the claims that are new and those that the session keeps.
   * When it throws then, the session keeps its claims without the roles, and the log says so.
   */
  parseClaims?: (claims: IdTokenClaims) => OidcClaims | Promise<OidcClaims>
  /**
   * Called at each login, after all checks and before the session begins.
   *
   * The value that it returns is kept as `request.oidcUser`; it must be JSON. When it sends a reply, that reply
   * replaces the login.
   *
   * `throw refuse('…')` refuses the login with `FST_OIDC_CLAIMS` (403) and this message for the user, an `OidcError`
   * with its own code. Any other error is a fault of the application: `FST_OIDC_UNEXPECTED` with status 500, or with
   * the status of the error if it is 500 to 599.
   *
   * It is also called when a program logs in (`broker`), which has no session. In a device login, `request` is that of
   * the program. It is not called for a token exchange, which only calls `broker.claims` and `broker.onIssue`.
   */
  onClaims?: (
    claims: IdTokenClaims,
    context: ClaimsContext
  ) => OidcUser | null | undefined | void | Promise<OidcUser | null | undefined | void>
  /** Called after a session has ended. An error that it throws is logged. */
  onLogout?: (session: OidcSession, context: LogoutContext) => void | Promise<void>
  /**
   * Called before the plugin answers a request with an error. When it sends a reply, that reply replaces the answer of
   * the plugin. An error that it throws is logged.
   */
  onError?: (error: OidcError, context: ErrorContext) => void | Promise<void>
  /**
   * How long a function of the application may take, in seconds, at most 600: `parseClaims`, `onClaims`, `onLogout`,
   * `onError`, `check` of a guard, `pages.render`, `broker.claims` and `broker.onIssue`. A login or a request whose
   * function takes longer fails with `FST_OIDC_UNEXPECTED` (503), and what the function returns later does not count. A
   * late `onLogout`, `onError` or `pages.render` is logged as one that throws. Default: 30.
   */
  hookTimeout?: number
  /** How the pages look, and in which language and words they speak. */
  pages?: PageOptions
  /** Claims that every guarded route requires, as in `required({ claims })`. Default: none. */
  requiredClaims?: Record<string, ClaimValue | ClaimValue[]>
  /**
   * The OpenTelemetry tracer and meter. `false` turns telemetry off. Default: the global ones, when
   * `@opentelemetry/api` is installed.
   */
  telemetry?: false | { tracer?: Tracer, meter?: Meter }
  /**
   * A `baseUrl` that is http on a loopback address (`localhost`, `*.localhost`, `127.0.0.0/8`, `[::1]`) is development:
   * it works without this option, and so do providers whose own issuer is http on such an address. When `NODE_ENV` is
   * `production`, such a `baseUrl` is refused, and `true` says that it is meant: a container on a laptop, for example.
   * Outside production, `true` also allows such providers beside an https `baseUrl`. Default: `false`.
   */
  allowInsecureLoopback?: boolean
}
