import fp from 'fastify-plugin'
import { createOptional, createRequired } from './lib/authenticate.ts'
import { createCore, rememberCore } from './lib/core.ts'
import { OidcError } from './lib/errors.ts'
import { startLogin } from './lib/login.ts'
import { logout } from './lib/logout.ts'
import { parseAuthorizationParams, parseMaxAge, parseOptions } from './lib/options.ts'
import { COOKIE_BUDGET } from './lib/pending.ts'
import { createAccessToken } from './lib/refresh.ts'
import { registerRoutes } from './lib/routes/index.ts'
import { kCurrent } from './lib/session.ts'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import type { Core } from './lib/core.ts'
import type { Oidc, OidcOptions } from './types/index.ts'

/**
 * Makes a Fastify application an OpenID Connect relying party.
 * Throws an `OidcError` with the code `FST_OIDC_OPTION` when an option is wrong.
 */
const plugin: FastifyPluginAsync<OidcOptions> = async (app, options) => {
  const settings = parseOptions(options)
  if (settings.provider.allowInsecureLoopback) app.log.warn('"allowInsecureLoopback" is set: http is for development only')
  const core = await createCore(app, settings)
  const oidc = createOidc(core)
  rememberCore(oidc, core)
  decorate(app, core, oidc)
  await registerRoutes(app, core, oidc)
  if (settings.provider.discovery === 'eager') await core.provider.discover()
}

function createOidc (core: Core): Oidc {
  const accessToken = createAccessToken(core)
  return {
    required: createRequired(core),
    optional: createOptional(core),
    accessToken,
    async userinfo (request) {
      const token = await accessToken(request)
      const sub = core.sessions.read(request)?.claims.sub as string
      return await core.telemetry.span('oidc.userinfo', async () => await core.provider.userinfo(token, sub))
    },
    async login (request, reply, { returnTo, maxAge, acrValues, authorizationParams = {} } = {}) {
      await startLogin(core, request, reply, {
        returnTo: core.urls.returnTo(returnTo), maxAge: parseMaxAge(maxAge), acrValues, authorizationParams: parseAuthorizationParams(authorizationParams, 'authorizationParams')
      })
      return reply
    },
    async logout (request, reply, { returnTo, federated = true } = {}) {
      await logout(core, request, reply, { returnTo: core.urls.returnTo(returnTo), federated })
      return reply
    }
  }
}

function decorate (app: FastifyInstance, core: Core, oidc: Oidc): void {
  app.decorate('oidc', oidc)
  app.decorateRequest('oidcClaims', null)
  app.decorateRequest('oidcUser', null)
  app.decorateRequest('oidcSession', null)
  app.decorateRequest(kCurrent, null)
  app.addHook('onSend', (request, reply, _payload, done) => {
    const bytes = core.sessions.finish(request, reply)
    if (bytes > 0) core.pending.fit(request, reply, COOKIE_BUDGET - bytes)
    done()
  })
}

/** The plugin: `await app.register(oidc, { issuer, clientId, clientSecret, baseUrl, session: { key } })` */
export default fp(plugin, { fastify: '5.x', name: 'fastify-oidc' })

export { OidcError }
export type { OidcErrorCode } from './lib/errors.ts'
export type * from './types/index.ts'
