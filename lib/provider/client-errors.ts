import * as client from 'openid-client'
import { OidcError, findOidcError } from '../errors.ts'
import { isRecord } from '../util/json.ts'
import { oauthError } from './oauth-error.ts'
import type { OidcErrorCode } from '../errors.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { ClientAuth } from '../../types/options.ts'

/**
 * Calls openid-client and throws an OidcError when the call fails. The code is `refused` when the provider rejects
 * what was sent: a code, a refresh token or an access token. `settings` are those of a call that authenticates the
 * client; it throws FST_OIDC_CLIENT_AUTHENTICATION when the provider does not accept the client.
 */
export async function attempt<T> (
  refused: OidcErrorCode,
  call: () => Promise<T>,
  settings?: Pick<ProviderSettings, 'clientAuth'>
): Promise<T> {
  try {
    return await call()
  } catch (cause) {
    const known = findOidcError(cause)
    if (known !== undefined) throw known
    const error = await oauthErrorOf(cause)
    if (settings !== undefined && isAboutClient(cause, error)) throw clientError(cause, settings)
    throw new OidcError(codeOf(cause, error, refused), { cause, detail: describe(cause, error) })
  }
}

const PASSED_ON = [
  'invalid_grant', 'invalid_scope', 'invalid_target', 'authorization_pending', 'slow_down', 'expired_token',
  'access_denied'
] as const

/** Throws FST_OIDC_GRANT with the provider's error code when the error is about the grant that an application sent. */
export async function passOn (cause: unknown): Promise<never> {
  const error = await oauthErrorOf(cause)
  const passedOn = PASSED_ON.find((code) => code === error)
  if (passedOn === undefined) throw cause
  throw oauthError(passedOn, 'The identity provider returned this error.', cause)
}

/** The error code of OAuth in the provider's response. openid-client does not read the body beside a challenge. */
async function oauthErrorOf (cause: unknown): Promise<string | undefined> {
  if (cause instanceof client.ResponseBodyError) return cause.error
  if (!(cause instanceof client.WWWAuthenticateChallengeError)) return undefined
  const body: unknown = await cause.response.json().catch(() => undefined)
  if (isRecord(body) && typeof body['error'] === 'string') return body['error']
  return cause.cause[0]?.parameters.error
}

/** Whether the provider refuses the client itself (RFC 6749, section 5.2), and not what it has sent. */
function isAboutClient (cause: unknown, error: string | undefined): boolean {
  if (error !== undefined) return error === 'invalid_client'
  return cause instanceof client.WWWAuthenticateChallengeError && cause.status === 401
}

/** The options that hold the credentials of each method. */
const CREDENTIALS: Record<ClientAuth, string> = {
  client_secret_basic: '"clientId" and "clientSecret"',
  client_secret_post: '"clientId" and "clientSecret"',
  client_secret_jwt: '"clientId" and "clientSecret"',
  private_key_jwt: '"clientId" and "clientKey"',
  tls_client_auth: '"clientId" and the certificate of "dispatcher"',
  none: '"clientId"'
}

function clientError (cause: unknown, { clientAuth }: Pick<ProviderSettings, 'clientAuth'>): OidcError {
  const { status } = cause as { status: number }
  return new OidcError('FST_OIDC_CLIENT_AUTHENTICATION', {
    cause,
    detail: `the provider answered ${status} invalid_client: check ${CREDENTIALS[clientAuth]}, and that ${clientAuth} ` +
      '("clientAuth") is the method that is registered for the client'
  })
}

function codeOf (cause: unknown, error: string | undefined, refused: OidcErrorCode): OidcErrorCode {
  if (isRefusedGrant(error) || isRefusedAccess(cause, refused)) return refused
  return isTokenProblem(cause) ? 'FST_OIDC_ID_TOKEN' : 'FST_OIDC_PROVIDER_RESPONSE'
}

function isRefusedGrant (error: string | undefined): boolean {
  return error !== undefined && ['invalid_grant', 'invalid_target', 'access_denied'].includes(error)
}

// A challenge from the UserInfo endpoint is about the access token.
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
function describe (cause: unknown, error: string | undefined): string {
  const { status, message } = cause as { status?: number, message?: string }
  return status === undefined ? String(message) : `the provider answered ${status} ${String(error).slice(0, 100)}`
}
