import { OidcError } from '../errors.ts'

/** The OAuth error codes that the endpoints of the broker return. */
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

/** An error that an application receives as an OAuth error response (RFC 6749, section 5.2). */
export function oauthError (error: OAuthErrorCode, description: string, cause?: unknown): OidcError {
  const reason = cause instanceof OidcError && cause.detail !== undefined ? ` (${cause.detail})` : ''
  return new OidcError('FST_OIDC_GRANT', {
    message: description,
    detail: `${error}: ${description}${reason}`,
    oauthError: error,
    cause
  })
}

/** Throws an OAuth error unless the condition is true. */
export function demand (condition: boolean, error: OAuthErrorCode, description: string): asserts condition {
  if (!condition) throw oauthError(error, description)
}

/**
 * The OAuth error code for a failure that the application did not cause (RFC 6749, section 4.1.2.1). `undefined` for
 * other errors.
 */
export function outageCode ({ statusCode }: OidcError): string | undefined {
  if (statusCode === 503) return 'temporarily_unavailable'
  return statusCode >= 500 ? 'server_error' : undefined
}

const REMEDIES: Partial<Record<string, string>> = {
  invalid_request: 'compare "authorizationParams", "responseMode" and the redirect URI with what the provider supports',
  invalid_client: 'check "clientId"',
  unauthorized_client: 'switch on the authorization code flow for the client at the provider',
  invalid_scope: '"scope" has a scope that the provider does not grant this client',
  invalid_target: '"resource" or "audience" names an API that the provider does not know',
  unsupported_grant_type: 'switch on the grant for the client at the provider',
  unsupported_response_type: 'switch on the authorization code flow for the client at the provider',
  invalid_redirect_uri: 'register the redirect URI at the provider',
  redirect_uri_mismatch: 'register the redirect URI at the provider'
}

/** What an operator must change so that the provider stops sending this error. `undefined`: others cause it. */
export function remedyFor (error: string): string | undefined {
  return Object.hasOwn(REMEDIES, error) ? REMEDIES[error] : undefined
}
