import { OidcError } from '../errors.ts'
import { isForeign, refuse } from '../refuse.ts'
import { callbackEndpoint } from './callback.ts'
import { loggedOutEndpoint } from './logged-out.ts'
import { loginEndpoint } from './login.ts'
import { logoutEndpoint } from './logout.ts'
import { sessionEndpoint } from './session.ts'
import { userinfoEndpoint } from './userinfo.ts'
import type { FastifyInstance, FastifyRequest, RouteHandlerMethod } from 'fastify'
import type { Core } from '../core.ts'
import type { Oidc } from '../../types/fastify.ts'

/** A handler for each method that an endpoint takes. */
export type Endpoint = Partial<Record<'GET' | 'POST', RouteHandlerMethod>>

const BODY_LIMIT = 65_536 // bytes

/** The endpoints, in a scope of their own: its form parser, headers and error handler concern nobody else. */
export async function registerRoutes (app: FastifyInstance, core: Core, oidc: Oidc): Promise<void> {
  await app.register(async (scope) => {
    setUpScope(scope, core)
    const { login, callback, logout, loggedOut, session, userinfo } = core.settings.routes
    serve(scope, callback, callbackEndpoint(core))
    if (login !== null) serve(scope, login, loginEndpoint(core))
    if (logout !== null) serve(scope, logout, logoutEndpoint(core, logout))
    if (loggedOut !== null) serve(scope, loggedOut, loggedOutEndpoint(core))
    if (session !== null) serve(scope, session, sessionEndpoint(core))
    if (userinfo !== null) serve(scope, userinfo, userinfoEndpoint(oidc))
  }, { logSerializers: { req: logRequest as never } })
}

function setUpScope (scope: FastifyInstance, core: Core): void {
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string', bodyLimit: BODY_LIMIT }, (_request, body, done) => done(null, body))
  scope.addHook('onRequest', async (_request, reply) => {
    reply.headers({ 'cache-control': 'no-store', 'referrer-policy': 'no-referrer', 'x-content-type-options': 'nosniff' })
  })
  scope.setErrorHandler(async (error, request, reply) => {
    if (isForeign(error)) throw error
    await refuse(core, error, request, reply)
    return reply
  })
}

// The other methods are refused here as well: HEAD must not use a login up, as it would where Fastify answers it like GET,
// and the application's own answer to unknown routes would put the codes of the query into its log.
function serve (scope: FastifyInstance, url: string, endpoint: Endpoint): void {
  for (const [method, handler] of Object.entries(endpoint)) {
    scope.route({ method, url, exposeHeadRoute: false, handler })
  }
  const allow = Object.keys(endpoint).join(', ')
  const others = scope.supportedMethods.filter((method) => !(method in endpoint) && method !== 'OPTIONS')
  const refuseMethod: RouteHandlerMethod = async (_request, reply) => {
    reply.header('allow', allow)
    throw new OidcError('FST_OIDC_METHOD')
  }
  scope.route({ method: others, url, onRequest: refuseMethod as never, handler: refuseMethod })
}

// The query of these routes holds codes and states: it stays out of the log.
function logRequest ({ method, url, host, ip }: FastifyRequest): Record<string, string> {
  return { method, url: url.split(/[?;]/, 1)[0] as string, host, remoteAddress: ip }
}
