import { isForeign } from '../http/error-response.ts'
import { markOwnRoutes } from '../http/own-routes.ts'
import { resourceMetadataPaths } from '../http/urls.ts'
import { backchannelLogoutEndpoint } from './backchannel-logout.ts'
import { callbackEndpoint } from './callback.ts'
import { serve, servePublic, withoutQuery } from './endpoint.ts'
import { frontchannelLogoutEndpoint } from './frontchannel-logout.ts'
import { initiateLoginEndpoint } from './initiate-login.ts'
import { loggedOutEndpoint } from './logged-out.ts'
import { loginEndpoint, providerLoginEndpoint } from './login.ts'
import { logoutEndpoint } from './logout.ts'
import { protectedResourceEndpoint } from './protected-resource.ts'
import { sessionEndpoint } from './session.ts'
import { userinfoEndpoint } from './userinfo.ts'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Parts } from '../compose.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { ProviderNameOf } from './endpoint.ts'

/** The limit for a posted form, in bytes. */
const BODY_LIMIT = 65_536

/** Adds the routes in their own scope: its form parser, headers and error handler do not affect the application. */
export async function registerRoutes (app: FastifyInstance, parts: Parts): Promise<void> {
  const { logSerializers, ...routeLog } = parts.settings.routeLog
  const log = { ...routeLog, logSerializers: { ...logSerializers, req: logRequest as never } }
  const { token, device } = parts.settings.tokenRoutes
  const programs = token === null && device === null ? undefined : await import('./programs.ts')
  for (const prefix of parts.urls.mounts) {
    await app.register(async (scope) => {
      setUpScope(scope, parts)
      serveProviders(scope, parts)
      serveUsers(scope, parts)
      programs?.servePrograms(scope, parts, app.prefix)
      serveMetadata(scope, parts, app.prefix)
    }, { prefix, ...log })
  }
}

function setUpScope (
  scope: FastifyInstance,
  { sessions, errorResponses: { sendError } }: Pick<Parts, 'sessions' | 'errorResponses'>
): void {
  const parser = { parseAs: 'string', bodyLimit: BODY_LIMIT } as const
  markOwnRoutes(scope)
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('application/x-www-form-urlencoded', parser, (_request, body, done) => done(null, body))
  scope.addHook('onRequest', async (request, reply) => {
    reply.headers({
      'cache-control': 'no-store',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff'
    })
    await sessions.prepare(request)
  })
  scope.setErrorHandler(async (error, request, reply) => {
    if (isForeign(error)) throw error
    await sendError(error, request, reply)
    return reply
  })
}

function serveProviders (scope: FastifyInstance, parts: Parts): void {
  const { providers, resolveProvider } = parts.settings
  for (const [name, { responseMode }] of providers) serveProvider(scope, parts, name, () => name, responseMode)
  if (resolveProvider !== undefined) serveProvider(scope, parts, ':provider', nameInPath, undefined)
}

// Each provider has its own routes: the path of a callback tells which provider answers (RFC 9700, section 4.4.2).
function serveProvider (
  scope: FastifyInstance,
  parts: Parts,
  name: string,
  nameOf: ProviderNameOf,
  responseMode: ProviderSettings['responseMode'] | undefined
): void {
  const { routes, providerRoutes } = parts.settings
  const { login, callback, initiateLogin, backchannelLogout, frontchannelLogout } = providerRoutes(name)
  serve(scope, callback, callbackEndpoint(parts, nameOf, responseMode))
  if (login !== null && login !== routes.login) serve(scope, login, providerLoginEndpoint(parts, nameOf))
  if (initiateLogin !== null) serve(scope, initiateLogin, initiateLoginEndpoint(parts, nameOf))
  if (backchannelLogout !== null) serve(scope, backchannelLogout, backchannelLogoutEndpoint(parts, nameOf))
  if (frontchannelLogout !== null) serve(scope, frontchannelLogout, frontchannelLogoutEndpoint(parts, nameOf))
}

function serveUsers (scope: FastifyInstance, parts: Parts): void {
  const { login, logout, loggedOut, session, userinfo } = parts.settings.routes
  if (login !== null) serve(scope, login, loginEndpoint(parts))
  if (logout !== null) serve(scope, logout, logoutEndpoint(parts, logout))
  if (loggedOut !== null) serve(scope, loggedOut, loggedOutEndpoint(parts, loggedOut))
  if (session !== null) serve(scope, session, sessionEndpoint(parts))
  if (userinfo !== null) serve(scope, userinfo, userinfoEndpoint(parts))
}

function serveMetadata (scope: FastifyInstance, parts: Parts, prefix: string): void {
  const { settings, bearer } = parts
  if (bearer === undefined) return
  const paths = resourceMetadataPaths(settings, prefix)
  for (const path of paths) servePublic(scope, path, protectedResourceEndpoint(parts, bearer.settings))
}

function nameInPath ({ params }: FastifyRequest): string {
  return (params as { provider: string }).provider
}

// The query of these routes holds codes and states: it stays out of the log.
function logRequest ({ method, url, host, ip }: FastifyRequest): Record<string, string> {
  return { method, url: withoutQuery(url), host, remoteAddress: ip }
}
