import type { ServerOptions } from 'node:https'
import type { JSONWebKeySet, JWK } from 'jose'
import type { Injectable } from '../wire.ts'
import type { Fault } from './fault.ts'

/**
 * The endpoints of the provider, by the names that `requests`, `count` and `fault` use. Nothing should ever request
 * `attacker`: it has an attacker's key set, and the redirects of `faults` lead to it.
 */
export type Endpoint =
  'metadata' | 'jwks' | 'authorize' | 'token' | 'userinfo' | 'end_session' |
  'revocation' | 'introspection' | 'device' | 'par' | 'device_verification' | 'attacker'

/** The signature algorithms of the provider. */
export type Alg = 'RS256' | 'PS256' | 'ES256' | 'EdDSA' | 'HS256'

/** How a client proves who it is at the token endpoint. */
export type ClientAuthMethod =
  'client_secret_basic' | 'client_secret_post' | 'client_secret_jwt' | 'private_key_jwt' | 'tls_client_auth' | 'none'

/** Claims of a token, by their wire names. */
export type Claims = Record<string, unknown>

/** A person the provider knows: `sub` and any claims. */
export interface ProviderUser {
  sub: string
  [claim: string]: unknown
}

/** A relying party the provider knows, in the names of client registration (OpenID Connect Registration 2). */
export interface ProviderClient {
  client_id: string
  client_secret?: string
  /** The only method accepted; every method the client has a credential for when absent. */
  token_endpoint_auth_method?: ClientAuthMethod
  /** Accepted redirect URIs; any when absent. */
  redirect_uris?: string[]
  /** Accepted post-logout redirect URIs; any when absent. */
  post_logout_redirect_uris?: string[]
  /** Default `RS256`. */
  id_token_signed_response_alg?: Alg
  /** Makes UserInfo answer a signed JWT; JSON when absent. */
  userinfo_signed_response_alg?: Alg
  /** Public keys of the client, for `private_key_jwt`. */
  jwks?: { keys: JWK[] }
  /** Subject of the client certificate, for `tls_client_auth`: `CN=` and the common name. */
  tls_client_auth_subject_dn?: string
  /** Gets a logout token when a session of this client ends at the end-session endpoint. */
  backchannel_logout_uri?: string
  /** Is framed by the page of the end-session endpoint. */
  frontchannel_logout_uri?: string
}

/**
 * What `approve` answers: `true` or nothing approves, `false` denies, a `sub` or a user logs that one in, an error is
 * sent back to the client.
 */
export type Approval = undefined | boolean | string | ProviderUser | { error: string, error_description?: string }

/** Options of `startProvider`. `provider.options` is the live object: a change counts from the next request on. */
export interface ProviderOptions {
  /** Port on 127.0.0.1; default 0, a free one. */
  port?: number
  /** Path of the issuer, e.g. `/realms/demo`; default none. */
  path?: string
  /** Serves HTTPS with these options of `node:https`. */
  tls?: ServerOptions
  /** Default: one client `web` with a secret, any redirect URI. */
  clients?: ProviderClient[]
  /** Default: one user `alice`. The first one logs in unless `login_hint` or `approve` says otherwise. */
  users?: ProviderUser[]
  /** Decides on each login that needs a person; default: the first user approves. */
  approve?: (params: Record<string, string>, user: ProviderUser) => Approval | void | Promise<Approval | void>
  /** Access tokens as random strings (default) or as `at+jwt` (RFC 9068). */
  accessTokenFormat?: 'opaque' | 'jwt'
  /** Audience of JWT access tokens when the request names no `resource`; default the issuer. */
  accessTokenAudience?: string | string[]
  /** Seconds; default 3600. */
  accessTokenTtl?: number
  /** Seconds; default 3600. */
  idTokenTtl?: number
  /** Seconds; default 60. */
  codeTtl?: number
  /** When a refresh token is issued; default `offline_access`, only for that scope. */
  refreshTokens?: 'offline_access' | 'always' | 'never'
  /** A refresh gives a new refresh token, and the old one used again ends the grant; default true. */
  rotateRefreshTokens?: boolean
  /** Puts the scope's claims in the ID token too, not only in UserInfo; default true. */
  claimsInIdToken?: boolean
  /** Refuses authorization requests without PKCE; default false. */
  requirePkce?: boolean
  /** Refuses authorization requests that were not pushed (RFC 9126); default false. */
  requirePar?: boolean
  /** Seconds between two polls of the device flow; default 5. */
  deviceInterval?: number
  /** Members that are laid over the metadata; `undefined` takes one away. */
  metadata?: Record<string, unknown>
  /** Other paths for the endpoints, e.g. a random one for the key set. */
  paths?: Partial<Record<Endpoint, string>>
}

/** A request as the provider received it. */
export interface ProviderRequest {
  endpoint: Endpoint | 'unknown'
  method: string
  /** Path without the query. */
  path: string
  query: Record<string, string>
  headers: Record<string, string | string[] | undefined>
  /** The form fields. */
  body: Record<string, string>
  rawBody: string
  /** `CN=` and the common name of the client certificate, over mutual TLS. */
  clientCertificate?: string
}

/** Claims laid over others, or a function that changes claims and header in place or returns other claims. */
export type Overrides = Claims | ((claims: Claims, header: Claims) => Claims | void)

/** What is signed, and how, when a test asks for a token without a login. */
export interface TokenOptions {
  sub?: string
  /** Default: the first client. */
  client_id?: string
  /** Claims laid over the regular ones (`undefined` takes one away), or a function that changes them. */
  overrides?: Overrides
  /** Header members laid over the regular ones; `undefined` takes one away. */
  header?: Claims
  /** Signs in another way; see `SignWith`. */
  signWith?: SignWith
}

/** An access token as a test asks for it. */
export interface AccessTokenOptions extends TokenOptions {
  /** Default `openid profile email`. */
  scope?: string
}

/** A logout token needs `sub`, `sid` or both. */
export interface LogoutTokenOptions extends TokenOptions {
  sid?: string
}

/** Where and how a logout token is sent. */
export interface SendLogoutOptions extends LogoutTokenOptions {
  /** Delivers through `inject` of this application instead of over the network. */
  app?: Injectable
  /** PEM of a certificate authority to trust. */
  ca?: string
  /** More form fields of the request. */
  fields?: Record<string, string>
}

/** The answer of a back-channel logout endpoint. */
export interface LogoutAnswer {
  status: number
  headers: Headers
  body: string
}

/**
 * Another signature than the right one: another algorithm with a key that is in the key set, or a trick.
 * `alternate-alg` signs rightly, with an algorithm the client is not registered for; `other-key` signs with an
 * unpublished key under the published `kid`; `public-pem` and `public-jwk` are HS256 keyed with the public key;
 * `embedded-jwk`, `jku` and `x5u` sign with an attacker's key that the header brings along.
 */
export type SignWith = Alg |
  'none' | 'alternate-alg' | 'other-key' | 'broken-signature' | 'public-pem' | 'public-jwk' | 'client-secret' |
  'no-kid' | 'unknown-kid' | 'embedded-jwk' | 'jku' | 'x5u' | 'crit'

/** Which keys follow after `rotateKeys`. */
export interface RotateOptions {
  /** The new keys carry the ids of the old ones; default false. */
  sameKid?: boolean
  /** The old keys stay in the key set; default false. */
  keep?: boolean
}

/** A running provider. */
export interface Provider {
  /** The issuer identifier: `url` and the `path` option. */
  readonly issuer: string
  /** The origin, e.g. `http://127.0.0.1:51234`. */
  readonly url: string
  readonly port: number
  /** The live options. */
  readonly options: ProviderOptions
  /** The live list of users. */
  readonly users: ProviderUser[]
  /** The live list of clients. */
  readonly clients: ProviderClient[]
  /** Every request so far, oldest first. */
  readonly requests: ProviderRequest[]
  /** How many requests an endpoint got. */
  count (endpoint: Endpoint): number
  clearRequests (): void
  /** Switches faults on. Returns a function that switches these off again. */
  fault (...faults: Array<Fault | readonly Fault[]>): () => void
  clearFaults (): void
  /** New signing keys. */
  rotateKeys (options?: RotateOptions): void
  /** The public key set, without any fault. */
  jwks (): JSONWebKeySet
  /** An ID token, signed as for a login. */
  idToken (options?: TokenOptions): string
  /** A JWT access token (RFC 9068). */
  accessToken (options?: AccessTokenOptions): string
  /** A logout token (Back-Channel Logout 2.4). */
  logoutToken (options: LogoutTokenOptions): string
  /** Posts a logout token to the back-channel logout endpoint of an application. */
  sendLogoutToken (url: string, options: SendLogoutOptions): Promise<LogoutAnswer>
  /** Approves a device login: the one with this code, or the newest. */
  approveDevice (user_code?: string, sub?: string): void
  /** Denies a device login: the one with this code, or the newest. */
  denyDevice (user_code?: string): void
  /** Forgets every login, grant and token, as a restart without a database does. */
  forget (): void
  /** Stops, and destroys every open socket. */
  close (): Promise<void>
}
