/**
 * The claims that a session keeps and that `request.oidcClaims` shows.
 * Open for the application: augment it with the claims that your provider sends.
 *
 * The identity of a person is the pair (`iss`, `sub`), compared byte by byte
 * (OpenID Connect Core 1.0, section 5.7); an e-mail address is not an identity.
 */
export interface OidcClaims {
  iss: string
  sub: string
  [claim: string]: unknown
}

/**
 * What `onClaims` returned at login, as `request.oidcUser` shows it.
 * Open for the application: augment it with the fields of your own user.
 */
// An empty interface is the only kind that an application can fill in.
export interface OidcUser {}

/**
 * The claims of a validated ID token (OpenID Connect Core 1.0, section 2), or the answer of UserInfo (section
 * 5.3.2).
 */
export interface IdTokenClaims extends OidcClaims {
  aud: string | string[]
  exp: number
  iat: number
  auth_time?: number
  acr?: string
  sid?: string
}

/** The answer of the UserInfo endpoint (OpenID Connect Core 1.0, section 5.3.2); its `sub` is that of the ID token. */
export interface UserinfoClaims {
  sub: string
  [claim: string]: unknown
}

/** The tokens that the provider issued (RFC 6749, section 5.1; OpenID Connect Core 1.0, section 3.1.3.3). */
export interface OidcTokens {
  access_token: string
  /** `bearer`, in lower case. */
  token_type: string
  /** When the access token expires, in seconds since the epoch; absent when the provider did not say. */
  expires_at?: number
  refresh_token?: string
  id_token?: string
  /** The granted scope, space-separated. */
  scope?: string
}

/**
 * What `request.oidcToken` tells of the access token that a request came with, all times in seconds since the
 * epoch.
 */
export interface OidcToken {
  /**
   * The name of the provider that issued it or, for a token of this application, that named the person; the
   * `iss` of a trusted issuer.
   */
  provider: string
  /** The client that it was issued to (`client_id`, `azp`, `cid` or `appid`), when the token says so. */
  clientId?: string
  /** Whether nobody stands behind it but that client (RFC 6749, section 4.4): its `sub` is not a person. */
  isClient: boolean
  /** From `scope` or `scp`. */
  scopes: string[]
  sid?: string
  authTime?: number
  acr?: string
  expiresAt: number
}

/** What `request.oidcSession` tells of the session, all times in seconds since the epoch. */
export interface OidcSession {
  /** A random identifier, new at every login. */
  id: string
  /** The name of the provider that authenticated the person. */
  provider: string
  /** The provider's own session identifier (OpenID Connect Back-Channel Logout 1.0, section 2.1), when it sent one. */
  sid?: string
  /** When the person authenticated at the provider (`auth_time`), when it said so. */
  authTime?: number
  /** The authentication context class (`acr`), when the provider sent one. */
  acr?: string
  /** The scopes that the provider granted. */
  scopes: string[]
  /** When this session began. */
  loginTime: number
  /** When it ends at the latest. */
  expiresAt: number
}
