/** The answer of the token endpoint (RFC 6749, section 5.1), with the fields of py-oidc-auth beside. */
export interface TokenResponse {
  access_token: string
  token_type: string
  /** In seconds. */
  expires_in?: number
  /** In seconds since the epoch, as `refresh_expires`. */
  expires?: number
  refresh_token?: string
  refresh_expires?: number
  scope?: string
  /** RFC 8693, section 2.2.1 */
  issued_token_type?: string
}
