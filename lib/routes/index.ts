import { refuse } from '../refuse.ts'
import { callbackRoute } from './callback.ts'
import { loggedOutRoute } from './logged-out.ts'
import { loginRoute } from './login.ts'
import { logoutRoute } from './logout.ts'
import { sessionRoute } from './session.ts'
import { userinfoRoute } from './userinfo.ts'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Core } from '../core.ts'
import type { UserinfoClaims } from '../../types/claims.ts'

const BODY_LIMIT = 65_536 // bytes

/** The endpoints, in a scope of their own: its form parser, headers and error handler concern nobody else. */
export async function registerRoutes (app: FastifyInstance, core: Core, userinfo: (request: FastifyRequest) => Promise<UserinfoClaims>): Promise<void> {
  await app.register(async (scope) => {
    setUpScope(scope, core)
    const { login, callback, logout, loggedOut, session, userinfo: userinfoPath } = core.settings.routes
    callbackRoute(scope, core, callback)
    if (login !== null) loginRoute(scope, core, login)
    if (logout !== null) logoutRoute(scope, core, logout)
    if (loggedOut !== null) loggedOutRoute(scope, core, loggedOut)
    if (session !== null) sessionRoute(scope, core, session)
    if (userinfoPath !== null) userinfoRoute(scope, core, userinfoPath, userinfo)
  }, { logSerializers: { req: logRequest as never } })
}

function setUpScope (scope: FastifyInstance, core: Core): void {
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string', bodyLimit: BODY_LIMIT }, (_request, body, done) => done(null, body))
  scope.addHook('onRequest', async (request, reply) => {
    // Fastify answers HEAD where there is GET: looking at a route must not use a login up.
    if (request.method === 'HEAD') return reply.callNotFound()
    reply.headers({ 'cache-control': 'no-store', 'referrer-policy': 'no-referrer', 'x-content-type-options': 'nosniff' })
  })
  scope.setErrorHandler(async (error, request, reply) => await refuse(core, error, request, reply))
}

// The query of these routes holds codes and states: it stays out of the log.
function logRequest ({ method, url, host, ip }: FastifyRequest): Record<string, string> {
  return { method, url: url.split('?', 1)[0] as string, host, remoteAddress: ip }
}
