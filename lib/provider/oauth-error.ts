import { OidcError } from '../errors.ts'

/** The error codes of OAuth that an endpoint of the broker answers with. */
export type OAuthErrorCode =
  | 'invalid_request'
  | 'invalid_client'
  | 'invalid_grant'
  | 'invalid_scope'
  | 'invalid_target'
  | 'unsupported_grant_type' // RFC 6749, section 5.2; RFC 8707
  | 'authorization_pending'
  | 'slow_down'
  | 'expired_token'
  | 'access_denied' // RFC 8628, section 3.5

export function oauthError (error: OAuthErrorCode, description: string, cause?: unknown): OidcError {
  return new OidcError('FST_OIDC_GRANT', {
    message: description,
    detail: `${error}: ${description}`,
    oauthError: error,
    cause
  })
}

/** Throws an error of OAuth unless the condition holds. */
export function demand (condition: boolean, error: OAuthErrorCode, description: string): asserts condition {
  if (!condition) throw oauthError(error, description)
}

/**
 * What an application is told of a failure that is not its own; `undefined` for another one (RFC 6749,
 * section 4.1.2.1).
 */
export function outageCode ({ statusCode }: OidcError): string | undefined {
  if (statusCode === 503) return 'temporarily_unavailable'
  return statusCode >= 500 ? 'server_error' : undefined
}
