import { OidcError } from '../errors.ts'
import { isForeign, sendError } from '../http/error-response.ts'
import { backchannelLogoutEndpoint } from './backchannel-logout.ts'
import { callbackEndpoint } from './callback.ts'
import { loggedOutEndpoint } from './logged-out.ts'
import { frontchannelLogoutEndpoint } from './frontchannel-logout.ts'
import { initiateLoginEndpoint } from './initiate-login.ts'
import { loginEndpoint, providerLoginEndpoint } from './login.ts'
import { logoutEndpoint } from './logout.ts'
import { authorizationServerEndpoint, introspectionEndpoint, jwksEndpoint, revocationEndpoint } from './broker.ts'
import { deviceEndpoint } from './device.ts'
import { tokenEndpoint } from './token.ts'
import { authorizationServerPaths, resourceMetadataPaths } from '../http/urls.ts'
import { protectedResourceEndpoint } from './protected-resource.ts'
import { sessionEndpoint } from './session.ts'
import { userinfoEndpoint } from './userinfo.ts'
import type { FastifyInstance, FastifyRequest, RouteHandlerMethod } from 'fastify'
import type { Core } from '../compose.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { Oidc } from '../../types/fastify.ts'

/** A handler for each method that an endpoint takes. */
export type Endpoint = Partial<Record<'GET' | 'POST', RouteHandlerMethod>>

const BODY_LIMIT = 65_536 // bytes

/** The endpoints, in a scope of their own: its form parser, headers and error handler concern nobody else. */
export async function registerRoutes (app: FastifyInstance, core: Core, oidc: Oidc): Promise<void> {
  await app.register(
    async (scope) => {
      setUpScope(scope, core)
      const {
        bearer,
        providers,
        resolveProvider,
        routes: { login, logout, loggedOut, session, userinfo }
      } = core.settings
      for (const [name, { responseMode }] of providers) serveProvider(scope, core, name, () => name, responseMode)
      if (resolveProvider !== undefined) serveProvider(scope, core, ':provider', nameInPath, undefined)
      if (login !== null) serve(scope, login, loginEndpoint(core))
      if (logout !== null) serve(scope, logout, logoutEndpoint(core, logout))
      if (loggedOut !== null) serve(scope, loggedOut, loggedOutEndpoint(core))
      if (session !== null) serve(scope, session, sessionEndpoint(core))
      if (userinfo !== null) serve(scope, userinfo, userinfoEndpoint(core, oidc))
      serveTokens(scope, core, app.prefix)
      if (bearer !== undefined) {
        for (const path of resourceMetadataPaths(core.settings, app.prefix)) {
          serve(scope, path, protectedResourceEndpoint(core, bearer))
        }
      }
    },
    { logSerializers: { req: logRequest as never } }
  )
}

// Each provider has its own: whose callback it is tells whose answer it is (RFC 9700, section 4.4.2).
function serveProvider (
  scope: FastifyInstance,
  core: Core,
  name: string,
  nameOf: (request: FastifyRequest) => string,
  responseMode: ProviderSettings['responseMode'] | undefined
): void {
  const { login, callback, initiateLogin, backchannelLogout, frontchannelLogout } = core.settings.providerRoutes(name)
  serve(scope, callback, callbackEndpoint(core, nameOf, responseMode))
  if (login !== null && login !== core.settings.routes.login) serve(scope, login, providerLoginEndpoint(core, nameOf))
  if (initiateLogin !== null) serve(scope, initiateLogin, initiateLoginEndpoint(core, nameOf))
  if (backchannelLogout !== null) serve(scope, backchannelLogout, backchannelLogoutEndpoint(core, nameOf))
  if (frontchannelLogout !== null) serve(scope, frontchannelLogout, frontchannelLogoutEndpoint(core, nameOf))
}

// For programs: they bring no cookies.
function serveTokens (scope: FastifyInstance, core: Core, prefix: string): void {
  const { broker, settings: { tokenRoutes: { token, device, revoke, introspect, jwks } } } = core
  if (token !== null) serve(scope, token, tokenEndpoint(core))
  if (device !== null) serve(scope, device, deviceEndpoint(core))
  if (broker === undefined) return
  if (revoke !== null) serve(scope, revoke, revocationEndpoint(core, broker))
  if (introspect !== null && broker.settings.resourceServers.size > 0) {
    serve(scope, introspect, introspectionEndpoint(core, broker))
  }
  if (jwks !== null) serve(scope, jwks, jwksEndpoint(broker))
  for (const path of authorizationServerPaths(core.settings, broker.settings.issuer, prefix)) {
    serve(scope, path, authorizationServerEndpoint(core, broker))
  }
}

function nameInPath ({ params }: FastifyRequest): string {
  return (params as { provider: string }).provider
}

function setUpScope (scope: FastifyInstance, core: Core): void {
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string', bodyLimit: BODY_LIMIT },
    (_request, body, done) => done(null, body)
  )
  scope.addHook('onRequest', async (request, reply) => {
    reply.headers({
      'cache-control': 'no-store',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff'
    })
    await core.sessions.prepare(request)
  })
  scope.setErrorHandler(async (error, request, reply) => {
    if (isForeign(error)) throw error
    await sendError(core, error, request, reply)
    return reply
  })
}

// The other methods are refused here as well: HEAD must not use a login up, as it would where Fastify answers
// it like GET,
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
