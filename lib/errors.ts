const table = {
  FST_OIDC_OPTION: [500, 'An option is wrong.'],
  FST_OIDC_PARAMETER: [400, 'The address is incomplete or was changed on the way.'],
  FST_OIDC_NAVIGATION: [400, 'A login must be opened as a page, not fetched by a script.'],
  FST_OIDC_PREFETCH: [503, 'This page is not available ahead of time.'],
  FST_OIDC_STATE: [400, 'This login was not started in this browser, or took too long.'],
  FST_OIDC_RESPONSE_ISSUER: [400, 'The answer came from another identity provider than the one that was asked.'],
  FST_OIDC_PROVIDER_REFUSED: [403, 'The identity provider did not log you in.'],
  FST_OIDC_CODE: [400, 'The identity provider did not accept the login any more.'],
  FST_OIDC_ID_TOKEN: [403, 'The answer of the identity provider could not be verified.'],
  FST_OIDC_USERINFO: [403, 'The answer of the identity provider could not be verified.'],
  FST_OIDC_CLAIMS: [403, 'You were logged in, but this application did not accept the account.'],
  FST_OIDC_SESSION_TOO_LARGE: [431, 'The session does not fit into the browser\'s cookies.'],
  FST_OIDC_LOGIN_REQUIRED: [401, 'You need to log in.'],
  FST_OIDC_AUTHENTICATION_TOO_OLD: [401, 'You need to log in again.'],
  FST_OIDC_FORBIDDEN: [403, 'Your account does not have access to this.'],
  FST_OIDC_AUTHORIZATION: [400, 'The request must have exactly one access token, in the Authorization header.'],
  FST_OIDC_TOKEN: [401, 'The access token is not valid.'],
  FST_OIDC_DPOP: [401, 'The DPoP proof is not valid.'],
  FST_OIDC_DPOP_NONCE: [401, 'The DPoP proof must have the nonce of this answer.'],
  FST_OIDC_CROSS_SITE: [403, 'This request came from another site.'],
  FST_OIDC_METHOD: [405, 'This address is not for requests of this method.'],
  FST_OIDC_MEDIA_TYPE: [415, 'This address takes only form data.'],
  FST_OIDC_BODY: [413, 'The request is too large.'],
  FST_OIDC_PROVIDER_UNKNOWN: [404, 'There is no such identity provider here.'],
  FST_OIDC_PROVIDER_UNAVAILABLE: [503, 'The identity provider does not answer at the moment.'],
  FST_OIDC_PROVIDER_RESPONSE: [502, 'The identity provider gave an answer that cannot be used.'],
  FST_OIDC_GRANT: [400, 'The grant is not valid.'],
  FST_OIDC_DEVICE: [503, 'The identity provider has no device flow.'],
  FST_OIDC_LOGOUT_TOKEN: [400, 'The logout token could not be verified.'],
  FST_OIDC_STORE_UNAVAILABLE: [503, 'This application cannot look up who you are at the moment.'],
  FST_OIDC_UNEXPECTED: [500, 'Something went wrong.']
} as const satisfies Record<string, readonly [status: number, message: string]>

/** The codes of all errors of the plugin. */
export type OidcErrorCode = keyof typeof table

export interface OidcErrorOptions {
  /** Instead of the code's own message; safe to show. */
  message?: string
  /** The original error: for logs, never for the caller. */
  cause?: unknown
  /** For the log: what exactly was wrong, without any secret. */
  detail?: string
  /** When to try again, in seconds. */
  retryAfter?: number | undefined
  /** What an endpoint of OAuth answers. */
  oauthError?: string | undefined
}

/** The one error of the plugin: a code, a status and a message that are safe to show. */
export class OidcError extends Error {
  readonly code: OidcErrorCode
  readonly statusCode: number
  /** What exactly was wrong, for the log; never shown to the caller. */
  readonly detail: string | undefined
  /** When to try again, in seconds. */
  readonly retryAfter: number | undefined
  /** The error code of OAuth (RFC 6749, section 5.2), of FST_OIDC_GRANT. */
  readonly oauthError: string | undefined

  constructor (code: OidcErrorCode, options: OidcErrorOptions = {}) {
    super(options.message ?? table[code][1], 'cause' in options ? { cause: options.cause } : {})
    this.name = 'OidcError'
    this.code = code
    this.statusCode = table[code][0]
    this.detail = options.detail
    this.retryAfter = options.retryAfter
    this.oauthError = options.oauthError
  }
}

/** The OidcError in a chain of causes: libraries wrap what the transport throws. */
export function findOidcError (error: unknown): OidcError | undefined {
  for (let depth = 0; depth < 5 && error instanceof Error; depth++) {
    if (error instanceof OidcError) return error
    error = error.cause
  }
  return undefined
}
