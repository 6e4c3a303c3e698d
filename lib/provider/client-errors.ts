import * as client from 'openid-client'
import { OidcError, findOidcError } from '../errors.ts'
import { oauthError } from './oauth-error.ts'
import type { OidcErrorCode } from '../errors.ts'

/**
 * Calls openid-client and throws an OidcError when the call fails. The code is `refused` when the provider rejects
 * what was sent: a code, a refresh token or an access token.
 */
export async function attempt<T> (refused: OidcErrorCode, call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (cause) {
    throw findOidcError(cause) ?? new OidcError(codeOf(cause, refused), { cause, detail: describe(cause) })
  }
}

const PASSED_ON = [
  'invalid_grant', 'invalid_scope', 'invalid_target', 'authorization_pending', 'slow_down', 'expired_token',
  'access_denied'
] as const

/** Throws FST_OIDC_GRANT with the provider's error code when the error is about the grant that an application sent. */
export function passOn (cause: unknown): never {
  const error = PASSED_ON.find((code) => cause instanceof client.ResponseBodyError && cause.error === code)
  if (error === undefined) throw cause
  throw oauthError(error, 'The identity provider returned this error.', cause)
}

function codeOf (cause: unknown, refused: OidcErrorCode): OidcErrorCode {
  if (isRefusedGrant(cause) || isRefusedAccess(cause, refused)) return refused
  return isTokenProblem(cause) ? 'FST_OIDC_ID_TOKEN' : 'FST_OIDC_PROVIDER_RESPONSE'
}

function isRefusedGrant (cause: unknown): boolean {
  return cause instanceof client.ResponseBodyError &&
    ['invalid_grant', 'invalid_target', 'access_denied'].includes(cause.error)
}

// A challenge from the UserInfo endpoint is about the access token. A challenge from the token endpoint is about the
// client's own credentials.
function isRefusedAccess (cause: unknown, refused: OidcErrorCode): boolean {
  return refused === 'FST_OIDC_USERINFO' && cause instanceof client.WWWAuthenticateChallengeError
}

// openid-client puts the claims or the header of an ID token into the cause of an error about it.
function isTokenProblem (cause: unknown): boolean {
  for (let depth = 0; depth < 4 && typeof cause === 'object' && cause !== null; depth++) {
    if ('claims' in cause || 'header' in cause) return true
    cause = (cause as { cause?: unknown }).cause
  }
  return false
}

// The error code of OAuth is short text from the provider. The rest of the cause may contain a token.
function describe (cause: unknown): string {
  if (cause instanceof client.ResponseBodyError) return `the provider answered ${cause.status} ${cause.error}`
  if (cause instanceof client.WWWAuthenticateChallengeError) {
    return `the provider answered ${cause.status} ${String(cause.cause[0]?.parameters.error)}`
  }
  return String((cause as Error).message)
}
