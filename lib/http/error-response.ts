import { OidcError, RETRY_AFTER } from '../errors.ts'
import { errorPage } from '../pages/pages.ts'
import { createLimit } from '../util/limit.ts'
import { http } from '../util/node-http.ts'
import { isFramed, wantsPage } from './fetch-metadata.ts'
import { runReplyHook } from './run-hook.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Settings } from '../options/settings.ts'
import type { TextLink } from '../pages/pages.ts'
import type { Telemetry } from '../telemetry.ts'
import type { Pages } from './pages.ts'
import type { LoginQuery, Urls } from './urls.ts'

/** The login with which the user can go on. */
export interface NextLogin extends LoginQuery {
  /** What a guard demands of it, for a script: parameters of the authorization request. */
  demands?: Record<string, string | number>
  /** The user chooses another account there: the one before was refused. */
  otherAccount?: boolean
}

export interface ErrorResponses {
  /** Logs and counts an error. Returns it as an OidcError. */
  report: (cause: unknown, request: FastifyRequest) => OidcError
  /**
   * Reports an error, calls `onError`, and answers with a page if a browser opens one, else with JSON. `login`
   * describes the link with which the user can log in.
   */
  sendError: (cause: unknown, request: FastifyRequest, reply: FastifyReply, login?: NextLogin) => Promise<void>
}

export interface ErrorResponseParts extends Pick<Settings, 'defaultReturnTo' | 'onError'> {
  urls: Pick<Urls, 'login'>
  pages: Pages
  telemetry: Pick<Telemetry, 'refused'>
  /** What stands in the log for the session of a request. */
  digestOf: (request: FastifyRequest) => string | undefined
}

/** How many errors of a flood are logged. */
const SAMPLES = { burst: 10, perSecond: 1 }

export function createErrorResponses ({
  urls,
  pages,
  telemetry,
  digestOf,
  defaultReturnTo,
  onError
}: ErrorResponseParts): ErrorResponses {
  const samples = createLimit(SAMPLES)

  function report (cause: unknown, request: FastifyRequest): OidcError {
    const error = toOidcError(cause)
    if (error.kind !== 'flood' || samples.take()) log(error, request, digestOf(request))
    telemetry.refused(error.code)
    return error
  }

  async function sendError (
    cause: unknown,
    request: FastifyRequest,
    reply: FastifyReply,
    login: NextLogin = {}
  ): Promise<void> {
    const error = report(cause, request)
    if (await callOnError(error, request, reply)) return
    reply.code(error.statusCode)
    setRetryAfter(reply, error)
    if (wantsPage(request)) await pages.send(reply, errorPage(error, exitOf(error, login)))
    else reply.header('cache-control', 'no-store').send(toJson(error, login))
  }

  /** Returns whether `onError` has answered the request. If it throws, the plugin answers. */
  async function callOnError (error: OidcError, request: FastifyRequest, reply: FastifyReply): Promise<boolean> {
    try {
      const { replied } = await runReplyHook(reply, () => onError?.(error, { request, reply }))
      return replied
    } catch (failure) {
      request.log.error({ err: failure }, 'onError failed')
      return false
    }
  }

  // Without access, the same login does not help: the provider would name the same user. And one that has not asked
  // the user again would not ask the next time.
  function exitOf (error: OidcError, login: NextLogin): TextLink {
    const url = urls.login(login)
    if (url !== null && login.otherAccount === true) return { url, text: 'useAnotherAccount' }
    const loginHelps = error.statusCode !== 403 || (LOGIN_FAILED.has(error.code) && error.oauthError === undefined)
    return url !== null && loginHelps
      ? { url, text: 'logInAgain' }
      : { url: defaultReturnTo, text: 'backToStart' }
  }

  // With all members of Fastify's own errors: a route may describe its 401 with them, and a
  // serializer that requires `error` would answer 500 without it.
  function toJson (
    { statusCode, code, message }: OidcError,
    { providers, stepUp, demands }: NextLogin
  ): Record<string, unknown> {
    const error = { statusCode, code, error: http.STATUS_CODES[statusCode], message }
    if (statusCode !== 401) return error
    const login = urls.login({ providers, stepUp })
    return { ...error, ...demands, ...(login !== null && { login }) }
  }

  return { report, sendError }
}

const LOGIN_FAILED: ReadonlySet<string> = new Set([
  'FST_OIDC_PROVIDER_REFUSED', 'FST_OIDC_ID_TOKEN', 'FST_OIDC_USERINFO', 'FST_OIDC_CLAIMS'
])

/** Says when to try again (RFC 9110, section 10.2.3), where the error says so, and in every 503. */
export function setRetryAfter (reply: FastifyReply, error: OidcError): void {
  const seconds = error.retryAfter ?? defaultRetryAfter(error)
  if (seconds !== undefined) reply.header('retry-after', seconds)
}

function defaultRetryAfter ({ statusCode, code }: OidcError): number | undefined {
  return statusCode === 503 && code !== 'FST_OIDC_PREFETCH' ? RETRY_AFTER : undefined
}

/** An error from any source, as an OidcError. */
export function toOidcError (cause: unknown): OidcError {
  if (cause instanceof OidcError) return cause
  const code = (cause as { code?: string } | null | undefined)?.code
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') return new OidcError('FST_OIDC_MEDIA_TYPE')
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new OidcError('FST_OIDC_BODY')
  return code?.startsWith('FST_ERR_CTP_') === true
    ? new OidcError('FST_OIDC_PARAMETER')
    : new OidcError('FST_OIDC_UNEXPECTED', { cause })
}

/** Whether the error comes from another plugin, for example a rate limiter. Its answer is sent unchanged. */
export function isForeign (error: unknown): boolean {
  const { statusCode = 500, code } = Object(error) as { statusCode?: number, code?: string }
  return !(error instanceof OidcError) && statusCode !== 500 && code?.startsWith('FST_ERR_CTP_') !== true
}

const IN_FRAME = 'the page is in a frame: inside of another site, browsers send the session cookie only with ' +
  '"session.sameSite" none, and many not even then'

// The cause of an error that the plugin does not expect is the only hint to the fault.
function log (error: OidcError, request: FastifyRequest, session: string | undefined): void {
  const { code, statusCode, level, detail, cause, message } = error
  const isUnexpected = code === 'FST_OIDC_UNEXPECTED'
  const reason = detail ?? (statusCode === 401 && isFramed(request) ? IN_FRAME : undefined)
  request.log[level]({ code, detail: reason?.slice(0, 500), session, ...(isUnexpected && { err: cause }) }, message)
}
