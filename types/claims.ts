/**
 * The claims that the session keeps, as `request.oidcClaims`. Extend it by declaration merging with the claims
 * that your provider sends.
 *
 * A user is identified by the pair `iss` and `sub`, compared exactly, upper and lower case included (OpenID Connect
 * Core 1.0, section 5.7). An e-mail address does not identify a user: it can be given to another person.
 */
export interface OidcClaims {
  /** The issuer: the provider that authenticated the user. */
  iss: string
  /** The identifier of the user at that issuer. */
  sub: string
  [claim: string]: unknown
}

/**
 * The value that `onClaims` returned at login, as `request.oidcUser`. Extend it by declaration merging with the
 * fields of your own user.
 */
// It is empty because only an interface can be extended by an application.
export interface OidcUser {}

/**
 * The claims of a validated ID token (OpenID Connect Core 1.0, section 2). With the option `userinfo`, also the
 * claims of the UserInfo response (section 5.3.2).
 */
export interface IdTokenClaims extends OidcClaims {
  /** The `clientId`, alone or with other audiences. */
  aud: string | string[]
  /** When the ID token expires, in seconds since the epoch. */
  exp: number
  /** When the provider issued the ID token, in seconds since the epoch. */
  iat: number
  /** When the user authenticated at the provider, in seconds since the epoch. */
  auth_time?: number
  /** The authentication context class. */
  acr?: string
  /** The session identifier of the provider. */
  sid?: string
}

/**
 * The claims of a UserInfo response (OpenID Connect Core 1.0, section 5.3.2). The plugin has checked that `sub` equals
 * that of the ID token.
 */
export interface UserinfoClaims {
  sub: string
  [claim: string]: unknown
}

/** The tokens that the provider issued (RFC 6749, section 5.1; OpenID Connect Core 1.0, section 3.1.3.3). */
export interface OidcTokens {
  access_token: string
  /** The type of the access token, in lower case: `bearer`. */
  token_type: string
  /** When the access token expires, in seconds since the epoch. Absent when the provider did not send `expires_in`. */
  expires_at?: number
  refresh_token?: string
  id_token?: string
  /** The granted scopes, separated by spaces. */
  scope?: string
}

/** The access token of a request, as `request.oidcToken`. All times are in seconds since the epoch. */
export interface OidcToken {
  /**
   * Who authenticated the user.
   *
   * - For a token of a provider: the name of that provider.
   * - For a token of this application's `broker`: the name of the provider that authenticated the user.
   * - For a token of one of `broker.trustedIssuers`: the `iss` of that issuer.
   */
  provider: string
  /** The client that the token was issued to (`client_id`, `azp`, `cid` or `appid`). Absent when no claim names it. */
  clientId?: string
  /** Whether the client acts for itself, without a user (RFC 6749, section 4.4). Its `sub` is then not a user. */
  isClient: boolean
  /** The granted scopes, from `scope` or `scp`. */
  scopes: string[]
  /** The session identifier (`sid`), when the token has one. */
  sid?: string
  /** When the user authenticated (`auth_time`), when the token has it. */
  authTime?: number
  /** The authentication context class (`acr`), when the token has one. */
  acr?: string
  /** When the token expires (`exp`). */
  expiresAt: number
}

/** The session of a request, as `request.oidcSession`. All times are in seconds since the epoch. */
export interface OidcSession {
  /** A random identifier. Each login creates a new one. */
  id: string
  /** The name of the provider that authenticated the user. */
  provider: string
  /**
   * The session identifier of the provider (OpenID Connect Back-Channel Logout 1.0, section 2.1). Absent when the
   * provider did not send one.
   */
  sid?: string
  /** When the user authenticated at the provider (`auth_time`). Absent when the provider did not send it. */
  authTime?: number
  /** The authentication context class (`acr`). Absent when the provider did not send one. */
  acr?: string
  /** The scopes that the provider granted. */
  scopes: string[]
  /** When this session began. */
  loginTime: number
  /** When this session ends at the latest, by `session.maxAge`. */
  expiresAt: number
}
