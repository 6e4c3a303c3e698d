import type { ServerOptions } from 'node:https'
import type { JWK } from 'jose'

/**
 * The endpoints of the provider, as `requests`, `count` and `fault` name them. No client should ever call `attacker`:
 * it serves the keys of an attacker, and the redirects of `faults` lead to it.
 */
export type Endpoint =
  'metadata' | 'jwks' | 'authorize' | 'token' | 'userinfo' | 'end_session' |
  'revocation' | 'introspection' | 'device' | 'par' | 'device_verification' | 'attacker'

/** The signature algorithms of the provider. */
export type Alg = 'RS256' | 'PS256' | 'ES256' | 'EdDSA' | 'HS256'

/** How a client authenticates at the token endpoint. */
export type ClientAuthMethod =
  'client_secret_basic' | 'client_secret_post' | 'client_secret_jwt' | 'private_key_jwt' | 'tls_client_auth' | 'none'

/** A user of the provider: `sub` and any claims. */
export interface ProviderUser {
  sub: string
  [claim: string]: unknown
}

/** A client of the provider, with the names of client metadata (OpenID Connect Dynamic Client Registration 1.0). */
export interface ProviderClient {
  client_id: string
  client_secret?: string
  /** The only method that is accepted. Default: every method for which the client has a credential. */
  token_endpoint_auth_method?: ClientAuthMethod
  /** The accepted redirect URIs. Default: any. */
  redirect_uris?: string[]
  /** The accepted post-logout redirect URIs. Default: any. */
  post_logout_redirect_uris?: string[]
  /** The algorithm that signs ID tokens. Default: `RS256`. */
  id_token_signed_response_alg?: Alg
  /** The algorithm that signs UserInfo responses, which are then JWTs. Default: JSON without a signature. */
  userinfo_signed_response_alg?: Alg
  /** The public keys of the client, for `private_key_jwt`. */
  jwks?: { keys: JWK[] }
  /** The subject of the client certificate, for `tls_client_auth`: `CN=` and the common name. */
  tls_client_auth_subject_dn?: string
  /** Receives a logout token when a session of this client ends at the end-session endpoint. */
  backchannel_logout_uri?: string
  /** The page of the end-session endpoint loads it in an iframe. */
  frontchannel_logout_uri?: string
}

/**
 * What `approve` returns: `true` or nothing to log the proposed user in, `false` to refuse, a `sub` or a user to log
 * that one in, or an error for the client.
 */
export type Approval = undefined | boolean | string | ProviderUser | { error: string, error_description?: string }

/** Options of `startProvider`. Changes of `provider.options` take effect with the next request. */
export interface ProviderOptions {
  /** The port on 127.0.0.1. Default: 0, a free port. */
  port?: number
  /** The path of the issuer, for example `/realms/demo`. Default: none. */
  path?: string
  /** Serves https with these options of `node:https`. Default: http. */
  tls?: ServerOptions
  /** Default: one client `web` with a secret and any redirect URI. */
  clients?: ProviderClient[]
  /** The users. The first one logs in unless `login_hint` or `approve` selects another. Default: one user `alice`. */
  users?: ProviderUser[]
  /** Decides each login that needs the user. Default: logs the proposed user in. */
  approve?: (params: Record<string, string>, user: ProviderUser) => Approval | void | Promise<Approval | void>
  /** The format of access tokens: random strings, or JWTs (RFC 9068). Default: `opaque`. */
  accessTokenFormat?: 'opaque' | 'jwt'
  /** The `aud` of JWT access tokens when the request has no `resource`. Default: the issuer. */
  accessTokenAudience?: string | string[]
  /** The lifetime of access tokens, in seconds. Default: 3600. */
  accessTokenTtl?: number
  /** The lifetime of ID tokens, in seconds. Default: 3600. */
  idTokenTtl?: number
  /** The lifetime of authorization codes, in seconds. Default: 60. */
  codeTtl?: number
  /** When a refresh token is issued. Default: `offline_access`, only for that scope. */
  refreshTokens?: 'offline_access' | 'always' | 'never'
  /** Each refresh issues a new refresh token; using the old one again revokes the grant. Default: `true`. */
  rotateRefreshTokens?: boolean
  /** Puts the claims of the scopes into the ID token, not only into UserInfo. Default: `true`. */
  claimsInIdToken?: boolean
  /** Rejects authorization requests and device logins without PKCE. Default: `false`. */
  requirePkce?: boolean
  /** Rejects authorization requests that were not pushed (RFC 9126). Default: `false`. */
  requirePar?: boolean
  /** The shortest time between two polls of a device login, in seconds. Default: 5. */
  deviceInterval?: number
  /** Members that replace or extend the metadata. `undefined` removes a member. */
  metadata?: Record<string, unknown>
  /** Paths that replace those of the endpoints. */
  paths?: Partial<Record<Endpoint, string>>
}
