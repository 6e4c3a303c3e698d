import { OidcError } from '../errors.ts'
import type { Params } from '../http/params.ts'

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

/** The value of a parameter that must be there. Throws FST_OIDC_GRANT. */
export function requireParam (params: Params, name: string): string {
  const value = params.get(name)
  demand(value !== undefined, 'invalid_request', `The parameter ${name} is missing.`)
  return value
}

/**
 * The scope that is wanted, of what was granted; all of it when none is named (RFC 6749, section 6). Throws
 * FST_OIDC_GRANT.
 */
export function narrowScope (granted: string, wanted: string | undefined): string {
  // An empty parameter is none (RFC 6749, section 3.2).
  if (wanted === undefined || wanted === '') return granted
  const [names, all] = [wanted, granted].map((scope) => scope.split(' ').filter(Boolean)) as [string[], string[]]
  demand(names.every((name) => all.includes(name)), 'invalid_scope', 'The scope is more than what was granted.')
  return names.join(' ')
}

/**
 * What an application is told of a failure that is not its own; `undefined` for another one (RFC 6749,
 * section 4.1.2.1).
 */
export function outageCode ({ statusCode }: OidcError): string | undefined {
  if (statusCode === 503) return 'temporarily_unavailable'
  return statusCode >= 500 ? 'server_error' : undefined
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
