import * as client from 'openid-client'
import { OidcError, findOidcError } from '../errors.ts'
import { printable } from '../http/params.ts'
import { oauthError, remedyFor } from './oauth-error.ts'
import { describeResponse } from './transport.ts'
import type { OidcErrorCode } from '../errors.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { ClientAuth } from '../../types/options.ts'

/**
 * Calls openid-client and throws an OidcError when the call fails. The code is `refused` when the provider rejects
 * what was sent: a code or a refresh token. `settings` are those of a call that authenticates the client, and
 * `grantType` is what it needs. It throws FST_OIDC_CLIENT_AUTHENTICATION when the provider does not accept the client,
 * or does not allow it this grant.
 */
export async function attempt<T> (
  refused: OidcErrorCode,
  call: () => Promise<T>,
  settings?: Pick<ProviderSettings, 'clientAuth'>,
  grantType?: string
): Promise<T> {
  try {
    return await call()
  } catch (cause) {
    const known = findOidcError(cause)
    if (known !== undefined) throw known
    const error = oauthErrorOf(cause)
    if (settings !== undefined && isAboutClient(cause, error)) throw clientError(cause, error, settings, grantType)
    const code = isRefusedGrant(error) ? refused : 'FST_OIDC_PROVIDER_RESPONSE'
    const remedy = remedyFor(String(error))
    const detail = describe(cause, error) + (remedy === undefined ? '' : `: ${remedy}`)
    throw new OidcError(code, { cause, detail, level: remedy === undefined ? undefined : 'error' })
  }
}

const PASSED_ON = [
  'invalid_request', 'invalid_grant', 'invalid_scope', 'invalid_target', 'authorization_pending', 'slow_down',
  'expired_token', 'access_denied'
] as const

/** Throws FST_OIDC_GRANT with the provider's error code when the error is about what an application sent. */
export async function passOn (cause: unknown): Promise<never> {
  const error = oauthErrorOf(cause)
  const passedOn = PASSED_ON.find((code) => code === error)
  if (passedOn === undefined) throw cause
  throw oauthError(passedOn, 'The identity provider returned this error.', cause)
}

/** The error code of OAuth in the provider's response, from its body or its challenge. */
function oauthErrorOf (cause: unknown): string | undefined {
  if (cause instanceof client.ResponseBodyError) return cause.error
  return cause instanceof client.WWWAuthenticateChallengeError ? cause.cause[0]?.parameters.error : undefined
}

// Beside RFC 6749: the provider would have to ask the user again (OpenID Connect Core 1.0, section 3.1.2.6), or does
// not know the token any more, in the words of several providers.
const REFUSED: ReadonlySet<string> = new Set([
  'invalid_grant', 'invalid_target',
  'interaction_required', 'login_required', 'consent_required', 'account_selection_required', 'mfa_required',
  'invalid_token', 'token_inactive', 'expired_token'
])

function isRefusedGrant (error: string | undefined): boolean {
  return error !== undefined && (error === 'access_denied' || REFUSED.has(error))
}

/** Errors about what was sent, also with the status 401. */
const ABOUT_REQUEST: ReadonlySet<string> = new Set([
  ...REFUSED, 'invalid_scope', 'unsupported_grant_type', 'authorization_pending', 'slow_down'
])

/**
 * Whether the provider refuses the client itself (RFC 6749, section 5.2), and not what it has sent. Some providers have
 * error codes of their own for a wrong secret, and some send another code of OAuth with the status 401.
 */
function isAboutClient (cause: unknown, error: string | undefined): boolean {
  if (error !== undefined && /client/i.test(error)) return true
  const isUnauthorized = isStatusError(cause) && cause.status === 401
  return isUnauthorized && (error === undefined || !ABOUT_REQUEST.has(error))
}

type StatusError = client.ResponseBodyError | client.WWWAuthenticateChallengeError

function isStatusError (cause: unknown): cause is StatusError {
  return cause instanceof client.ResponseBodyError || cause instanceof client.WWWAuthenticateChallengeError
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

// Keycloak answers a wrong secret with 401 unauthorized_client, and Glewlwyd with 403. With another status, that code
// says that the client may not use the grant.
function clientError (
  cause: unknown,
  error = 'invalid_client',
  { clientAuth }: Pick<ProviderSettings, 'clientAuth'>,
  grantType: string | undefined
): OidcError {
  const credentials = `check ${CREDENTIALS[clientAuth]}, and that ${clientAuth} ("clientAuth") is the method that is ` +
    'registered for the client'
  const permission = grantType === undefined ? 'this request' : `the grant ${grantType}`
  const isPermission = error === 'unauthorized_client' && (cause as StatusError).status === 400
  const advice = isPermission
    ? `switch on ${permission} for the client at the provider, and if that is done, ${credentials}`
    : `${credentials}, which must be allowed ${permission}`
  return new OidcError('FST_OIDC_CLIENT_AUTHENTICATION', { cause, detail: `${describe(cause, error)}: ${advice}` })
}

// openid-client gives the response itself as the cause where it could not read it.
function isResponse (value: unknown): value is Response {
  return Object.prototype.toString.call(value) === '[object Response]'
}

// The error code of OAuth is short text from the provider. The rest of the cause may contain a token, but the message
// of the error that openid-client wraps does not.
function describe (cause: unknown, error: string | undefined): string {
  const { code, message, cause: inner } = cause as { code?: unknown, message?: string, cause?: unknown }
  if (isStatusError(cause)) {
    const code = printable(String(error).slice(0, 100))
    return `${describeResponse(cause.response)}: the provider answered ${cause.status} ${code}`
  }
  if (isResponse(inner)) return describeResponse(inner)
  return textOf(inner instanceof Error ? inner : { code, message })
}

// The texts of openid-client contain no secret, and its errors have a code. Others may quote one: that of `Headers`
// quotes the whole header.
function textOf ({ code, message }: { code?: unknown, message?: string | undefined }): string {
  return typeof code === 'string' ? String(message) : String(message).replace(/".*"/s, '"…"')
}
