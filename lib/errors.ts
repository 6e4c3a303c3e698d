/**
 * At which level an error is logged: `error` for what only an operator can fix, `warn` for what may come from wrong
 * clocks or from the provider, and `info` for what users, their browsers and attackers cause.
 */
export type LogLevel = 'error' | 'warn' | 'info'

// The HTTP status and the message of each code, and its level unless the status tells it.
const table = {
  FST_OIDC_OPTION: [500, 'An option is wrong.'],
  FST_OIDC_PARAMETER: [400, 'The address is incomplete or was changed.'],
  FST_OIDC_NAVIGATION: [400, 'A login must be opened as a page, not fetched by a script.'],
  FST_OIDC_PREFETCH: [503, 'This page cannot be prefetched.', 'info'],
  FST_OIDC_STATE: [400, 'This login was not started in this browser, or took too long.'],
  FST_OIDC_RESPONSE_ISSUER: [400, 'The response came from a different identity provider than the one that was asked.'],
  FST_OIDC_PROVIDER_REFUSED: [403, 'The identity provider did not log you in.'],
  FST_OIDC_CODE: [400, 'The identity provider no longer accepted this login.'],
  FST_OIDC_ID_TOKEN: [403, 'The response of the identity provider could not be verified.', 'warn'],
  FST_OIDC_USERINFO: [403, 'The response of the identity provider could not be verified.', 'warn'],
  FST_OIDC_CLAIMS: [403, 'You logged in, but this application did not accept your account.'],
  FST_OIDC_SESSION_TOO_LARGE: [431, 'The session does not fit into the browser\'s cookies.', 'error'],
  FST_OIDC_LOGIN_REQUIRED: [401, 'You need to log in.'],
  FST_OIDC_LOGIN_LOST: [400, 'You logged in, but this page does not accept it.', 'warn'],
  FST_OIDC_AUTHENTICATION_TOO_OLD: [401, 'You need to log in again.'],
  FST_OIDC_FORBIDDEN: [403, 'Your account does not have access to this.'],
  FST_OIDC_AUTHORIZATION: [400, 'The request must contain exactly one access token, in the Authorization header.'],
  FST_OIDC_TOKEN: [401, 'The access token is not valid.'],
  FST_OIDC_DPOP: [401, 'The DPoP proof is not valid.'],
  FST_OIDC_DPOP_NONCE: [401, 'The DPoP proof must contain the nonce of this response.'],
  FST_OIDC_CROSS_SITE: [403, 'This request came from another site.'],
  FST_OIDC_METHOD: [405, 'This address does not accept this request method.'],
  FST_OIDC_MEDIA_TYPE: [415, 'This address accepts only form data.'],
  FST_OIDC_BODY: [413, 'The request is too large.'],
  FST_OIDC_PROVIDER_UNKNOWN: [404, 'There is no such identity provider.'],
  FST_OIDC_PROVIDER_UNAVAILABLE: [503, 'The identity provider does not answer at the moment.'],
  FST_OIDC_PROVIDER_RESPONSE: [502, 'The identity provider sent a response that cannot be used.'],
  FST_OIDC_CLIENT_AUTHENTICATION: [503, 'The identity provider does not accept this application.'],
  FST_OIDC_GRANT: [400, 'The grant is not valid.'],
  FST_OIDC_DEVICE: [503, 'The identity provider does not support the device flow.'],
  FST_OIDC_LOGOUT_TOKEN: [400, 'The logout token could not be verified.'],
  FST_OIDC_STORE_UNAVAILABLE: [503, 'This application cannot look up who you are at the moment.'],
  FST_OIDC_OUTSIDE: [500, 'This route is outside the scope in which fastify-oidc is registered.'],
  FST_OIDC_UNEXPECTED: [500, 'Something went wrong.']
} as const satisfies Record<string, readonly [status: number, message: string, level?: LogLevel]>

/** The codes of all errors of the plugin. */
export type OidcErrorCode = keyof typeof table

/** The message of each code, in English. */
export const MESSAGES = Object.fromEntries(
  Object.entries(table).map(([code, [, message]]) => [code, message])
) as Record<OidcErrorCode, string>

/** In seconds: when to try again where nothing names a time. */
export const RETRY_AFTER = 5

export interface OidcErrorOptions {
  /** Replaces the message of the code. It must be safe to show. */
  message?: string | undefined
  /** The original error, for the log. It is never sent to the client. */
  cause?: unknown
  /** The exact reason, for the log. It must not contain a secret. */
  detail?: string | undefined
  /** After how many seconds the client may try again. */
  retryAfter?: number | undefined
  /** The `error` of the response of an OAuth endpoint. */
  oauthError?: string | undefined
  /** The HTTP status. Default: that of the code. */
  statusCode?: number | undefined
  /** At which level it is logged. Default: that of the code. */
  level?: LogLevel | undefined
  kind?: OidcErrorKind | undefined
}

/** An error that the plugin itself must tell from others with its code. */
export type OidcErrorKind =
  /** The provider answered with a redirect. */
  'redirect' |
  /** No key opens an entry of the store. */
  'unreadable' |
  /** The provider answered with 429. */
  'busy' |
  /** A function of the application has not ended in time. */
  'late' |
  /** Too many tokens came that the provider must be asked about. Only some of these errors are logged. */
  'flood'

/** Every error of the plugin. Its code, status and message are safe to show. */
export class OidcError extends Error {
  readonly code: OidcErrorCode
  readonly statusCode: number
  /** The exact reason, for the log. It is never sent to the client. */
  readonly detail: string | undefined
  /** After how many seconds the client may try again. */
  readonly retryAfter: number | undefined
  /** The error code of OAuth (RFC 6749, section 5.2), with FST_OIDC_GRANT and some FST_OIDC_ID_TOKEN. */
  readonly oauthError: string | undefined
  /** At which level the plugin logs it. */
  readonly level: LogLevel
  /** What tells it from other errors with its code, for the plugin itself. */
  readonly kind: OidcErrorKind | undefined

  constructor (code: OidcErrorCode, options: OidcErrorOptions = {}) {
    super(options.message ?? table[code][1], 'cause' in options ? { cause: options.cause } : {})
    this.name = 'OidcError'
    this.code = code
    this.statusCode = options.statusCode ?? table[code][0]
    this.detail = options.detail
    this.retryAfter = options.retryAfter
    this.oauthError = options.oauthError
    this.level = options.level ?? levelOf(code)
    this.kind = options.kind
  }
}

function levelOf (code: OidcErrorCode): LogLevel {
  const [status, , level]: readonly [number, string, LogLevel?] = table[code]
  return level ?? (status >= 500 ? 'error' : 'info')
}

/**
 * The error with which a hook of the application refuses a user or a token:
 * `throw refuse('Ask your manager for access.')`. It answers 403 with the code FST_OIDC_CLAIMS. The user sees the
 * message; the log has `detail` or, without one, the message.
 */
export function refuse (message?: string, { detail = message }: Pick<OidcErrorOptions, 'detail'> = {}): OidcError {
  return new OidcError('FST_OIDC_CLAIMS', { message, detail })
}

/** The OidcError in a chain of causes. Libraries wrap the errors that the transport throws. */
export function findOidcError (error: unknown): OidcError | undefined {
  for (let depth = 0; depth < 5 && error instanceof Error; depth++) {
    if (error instanceof OidcError) return error
    error = error.cause
  }
  return undefined
}

/** Whether an error is an OidcError with this code. */
export function hasCode (error: unknown, code: OidcErrorCode): boolean {
  return error instanceof OidcError && error.code === code
}

/** What the log says of an error that is not answered. */
export function reasonOf ({ code, detail }: OidcError): Pick<OidcError, 'code' | 'detail'> {
  return { code, detail }
}

/**
 * What an error of other software says, for the log. Node.js has no message, but a code, where it has tried several
 * addresses.
 */
export function messageOf (cause: unknown): string {
  const { message, code } = Object(cause) as { message?: unknown, code?: unknown }
  return String(message || code || 'failed')
}

/** Throws an OidcError with this detail unless the condition holds. */
export type Check = (condition: boolean, detail: string) => asserts condition

/** Makes the check of one file: every failure is an OidcError with the same code. */
export function checkWith (code: OidcErrorCode): Check {
  return (condition, detail) => {
    if (!condition) throw new OidcError(code, { detail })
  }
}

/** Makes a handler for `catch`: an OidcError stays what it is, any other error gets the code. */
export function asOidcError (code: OidcErrorCode): (cause: unknown) => never {
  return (cause) => {
    if (cause instanceof OidcError) throw cause
    const detail = cause instanceof Error ? cause.message : String(cause)
    throw new OidcError(code, { cause, detail })
  }
}
