import { wantsPage } from './caller.ts'
import { OidcError } from './errors.ts'
import { errorPage } from './pages.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Core } from './core.ts'

/** Answers with an error: a page for a person, JSON for everybody else; `onError` first. */
export async function refuse (core: Core, cause: unknown, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const error = toOidcError(cause)
  log(error, request)
  core.telemetry.refused(error.code)
  await core.settings.onError?.(error, { request, reply })
  if (reply.sent) return reply
  reply.code(error.statusCode)
  const { retryAfter = error.code === 'FST_OIDC_PROVIDER_UNAVAILABLE' ? 5 : undefined } = error
  if (retryAfter !== undefined) reply.header('retry-after', retryAfter)
  const login = core.settings.routes.login
  if (wantsPage(request)) return errorPage(reply, error, login === null ? null : core.urls.route(login))
  return reply.header('cache-control', 'no-store').send(toJson(error, core))
}

function toJson (error: OidcError, { settings, urls }: Core): Record<string, unknown> {
  const { statusCode, code, message } = error
  const login = statusCode === 401 && settings.routes.login !== null ? { login: urls.route(settings.routes.login) } : {}
  return { statusCode, code, message, ...login }
}

function toOidcError (cause: unknown): OidcError {
  if (cause instanceof OidcError) return cause
  const status = (cause as { statusCode?: number } | null)?.statusCode
  if (status === 415) return new OidcError('FST_OIDC_MEDIA_TYPE')
  if (status === 413) return new OidcError('FST_OIDC_BODY')
  if (status !== undefined && status >= 400 && status < 500) return new OidcError('FST_OIDC_PARAMETER')
  return new OidcError('FST_OIDC_UNEXPECTED', { cause })
}

// What anybody can cause is worth a line of level info, what needs an operator one of level error.
function log (error: OidcError, request: FastifyRequest): void {
  const entry = { code: error.code, detail: error.detail?.slice(0, 500) }
  if (error.code === 'FST_OIDC_UNEXPECTED') request.log.error({ ...entry, err: error.cause }, error.message)
  else if (error.statusCode >= 500 || error.code === 'FST_OIDC_SESSION_TOO_LARGE') request.log.error(entry, error.message)
  else request.log.info(entry, error.message)
}
