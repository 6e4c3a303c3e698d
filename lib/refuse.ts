import { wantsPage } from './caller.ts'
import { OidcError } from './errors.ts'
import { errorPage } from './pages.ts'
import { runHook } from './replied.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Core } from './core.ts'
import type { Exit } from './pages.ts'

/** Answers with an error: a page for a person, JSON for everybody else; `onError` first. `returnTo` is where the person wanted to go. */
export async function refuse (core: Core, cause: unknown, request: FastifyRequest, reply: FastifyReply, returnTo?: string): Promise<void> {
  const error = toOidcError(cause)
  log(error, request)
  core.telemetry.refused(error.code)
  if (await isAnswered(core, error, request, reply)) return
  reply.code(error.statusCode)
  const { retryAfter = error.code === 'FST_OIDC_PROVIDER_UNAVAILABLE' ? 5 : undefined } = error
  if (retryAfter !== undefined) reply.header('retry-after', retryAfter)
  if (wantsPage(request)) errorPage(reply, error, exitOf(core, error, returnTo))
  else reply.header('cache-control', 'no-store').send(toJson(error, core))
}

/** Whether the application's own hook has answered. One that fails does not leave the request without an answer. */
async function isAnswered ({ settings }: Core, error: OidcError, request: FastifyRequest, reply: FastifyReply): Promise<boolean> {
  try {
    const { replied } = await runHook(reply, () => settings.onError?.(error, { request, reply }))
    return replied
  } catch (failure) {
    request.log.error({ err: failure }, 'onError failed')
    return reply.sent
  }
}

// Whoever has no access gets none by logging in again: the provider would name the same person.
function exitOf ({ settings, urls }: Core, error: OidcError, returnTo?: string): Exit {
  const { login } = settings.routes
  if (login === null || (error.statusCode === 403 && !LOGIN_FAILED.has(error.code))) return { url: settings.defaultReturnTo, label: 'Back to the start' }
  const query = returnTo === undefined ? '' : `?return_to=${encodeURIComponent(returnTo)}`
  return { url: urls.route(login) + query, label: 'Log in again' }
}

const LOGIN_FAILED: ReadonlySet<string> = new Set(['FST_OIDC_PROVIDER_REFUSED', 'FST_OIDC_ID_TOKEN', 'FST_OIDC_USERINFO', 'FST_OIDC_CLAIMS'])

function toJson (error: OidcError, { settings, urls }: Core): Record<string, unknown> {
  const { statusCode, code, message } = error
  const login = statusCode === 401 && settings.routes.login !== null ? { login: urls.route(settings.routes.login) } : {}
  return { statusCode, code, message, ...login }
}

function toOidcError (cause: unknown): OidcError {
  if (cause instanceof OidcError) return cause
  const code = (cause as { code?: string } | null | undefined)?.code
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') return new OidcError('FST_OIDC_MEDIA_TYPE')
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new OidcError('FST_OIDC_BODY')
  return code?.startsWith('FST_ERR_CTP_') === true ? new OidcError('FST_OIDC_PARAMETER') : new OidcError('FST_OIDC_UNEXPECTED', { cause })
}

/** Whether another plugin refused the request, such as one that limits how often a client may ask: its answer stands. */
export function isForeign (error: unknown): boolean {
  const { statusCode = 500, code } = Object(error) as { statusCode?: number, code?: string }
  return !(error instanceof OidcError) && statusCode !== 500 && code?.startsWith('FST_ERR_CTP_') !== true
}

// What anybody can cause is worth a line of level info, what needs an operator one of level error.
function log (error: OidcError, request: FastifyRequest): void {
  const entry = { code: error.code, detail: error.detail?.slice(0, 500) }
  if (error.code === 'FST_OIDC_UNEXPECTED') request.log.error({ ...entry, err: error.cause }, error.message)
  else if (error.code === 'FST_OIDC_CLAIMS') request.log.warn({ ...entry, err: error.cause }, error.message)
  else if (error.statusCode >= 500 || error.code === 'FST_OIDC_SESSION_TOO_LARGE') request.log.error(entry, error.message)
  else request.log.info(entry, error.message)
}
