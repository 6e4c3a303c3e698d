import { wantsPage } from './fetch-metadata.ts'
import { OidcError } from '../errors.ts'
import { errorPage } from './pages.ts'
import { runReplyHook } from './run-hook.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Core } from '../compose.ts'
import type { LoginQuery } from './urls.ts'
import type { Exit } from './pages.ts'

/**
 * Answers with an error: a page for a person, JSON for everybody else; `onError` first. `login` is what a
 * login would be for.
 */
export async function sendError (
  core: Core,
  cause: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  login: LoginQuery = {}
): Promise<void> {
  const error = report(core, cause, request)
  if (await isAnswered(core, error, request, reply)) return
  reply.code(error.statusCode)
  const { retryAfter = error.statusCode === 503 && error.code !== 'FST_OIDC_PREFETCH' ? 5 : undefined } = error
  if (retryAfter !== undefined) reply.header('retry-after', retryAfter)
  if (wantsPage(request)) errorPage(reply, error, exitOf(core, error, login))
  else reply.header('cache-control', 'no-store').send(toJson(core, error, login))
}

/** Counts and logs what went wrong. Returns it as an error of the plugin. */
export function report ({ telemetry }: Pick<Core, 'telemetry'>, cause: unknown, request: FastifyRequest): OidcError {
  const error = toOidcError(cause)
  log(error, request)
  telemetry.refused(error.code)
  return error
}

/** Whether the application's own hook has answered. One that fails does not leave the request without an answer. */
async function isAnswered (
  { settings }: Core,
  error: OidcError,
  request: FastifyRequest,
  reply: FastifyReply
): Promise<boolean> {
  try {
    const { replied } = await runReplyHook(reply, () => settings.onError?.(error, { request, reply }))
    return replied
  } catch (failure) {
    request.log.error({ err: failure }, 'onError failed')
    return reply.sent
  }
}

// Whoever has no access gets none by logging in again: the provider would name the same person.
function exitOf ({ settings, urls }: Core, error: OidcError, login: LoginQuery): Exit {
  const url = urls.login(login)
  const helps = error.statusCode !== 403 || LOGIN_FAILED.has(error.code)
  return url !== null && helps
    ? { url, label: 'Log in again' }
    : { url: settings.defaultReturnTo, label: 'Back to the start' }
}

const LOGIN_FAILED: ReadonlySet<string> = new Set([
  'FST_OIDC_PROVIDER_REFUSED', 'FST_OIDC_ID_TOKEN', 'FST_OIDC_USERINFO', 'FST_OIDC_CLAIMS'
])

function toJson (
  { urls }: Core,
  { statusCode, code, message }: OidcError,
  { providers }: LoginQuery
): Record<string, unknown> {
  const login = statusCode === 401 ? urls.login({ providers }) : null
  return { statusCode, code, message, ...(login !== null && { login }) }
}

/** What other parts threw, as an error of the plugin. */
export function toOidcError (cause: unknown): OidcError {
  if (cause instanceof OidcError) return cause
  const code = (cause as { code?: string } | null | undefined)?.code
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') return new OidcError('FST_OIDC_MEDIA_TYPE')
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new OidcError('FST_OIDC_BODY')
  return code?.startsWith('FST_ERR_CTP_') === true
    ? new OidcError('FST_OIDC_PARAMETER')
    : new OidcError('FST_OIDC_UNEXPECTED', { cause })
}

/**
 * Whether another plugin refused the request, such as one that limits how often a client may ask: its answer
 * stands.
 */
export function isForeign (error: unknown): boolean {
  const { statusCode = 500, code } = Object(error) as { statusCode?: number, code?: string }
  return !(error instanceof OidcError) && statusCode !== 500 && code?.startsWith('FST_ERR_CTP_') !== true
}

// What anybody can cause is worth a line of level info, what needs an operator one of level error.
function log (error: OidcError, request: FastifyRequest): void {
  const entry = { code: error.code, detail: error.detail?.slice(0, 500) }
  if (error.code === 'FST_OIDC_UNEXPECTED') request.log.error({ ...entry, err: error.cause }, error.message)
  else if (error.code === 'FST_OIDC_CLAIMS') request.log.warn({ ...entry, err: error.cause }, error.message)
  else if (error.statusCode >= 500 || error.code === 'FST_OIDC_SESSION_TOO_LARGE') {
    request.log.error(entry, error.message)
  } else request.log.info(entry, error.message)
}
