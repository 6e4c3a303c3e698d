import { OidcError } from '../errors.ts'

/** The error codes of OAuth that an endpoint of the broker answers with. */
export type OAuthErrorCode =
  'invalid_request' | 'invalid_client' | 'invalid_grant' | 'invalid_scope' | 'invalid_target' | 'unsupported_grant_type' | // RFC 6749, section 5.2; RFC 8707
  'authorization_pending' | 'slow_down' | 'expired_token' | 'access_denied' // RFC 8628, section 3.5

export function oauthError (error: OAuthErrorCode, description: string, cause?: unknown): OidcError {
  return new OidcError('FST_OIDC_GRANT', { message: description, detail: `${error}: ${description}`, oauthError: error, cause })
}

/** Throws an error of OAuth unless the condition holds. */
export function demand (condition: boolean, error: OAuthErrorCode, description: string): asserts condition {
  if (!condition) throw oauthError(error, description)
}

/** The answer of the token endpoint (RFC 6749, section 5.1), with the fields of py-oidc-auth beside. */
export interface TokenAnswer {
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
