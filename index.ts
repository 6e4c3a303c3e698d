import fp from 'fastify-plugin'
import { createOptional, createRequired, findProvider } from './lib/guard/guards.ts'
import { brokerOf, revokeGrants } from './lib/broker/admin.ts'
import { createCore, rememberCore } from './lib/compose.ts'
import { OidcError } from './lib/errors.ts'
import { startChoice, startLogin } from './lib/login/login.ts'
import { parseLoginOptions } from './lib/login/login-parameters.ts'
import { logout } from './lib/logout/logout.ts'
import { documentRoutes } from './lib/guard/openapi.ts'
import { parseOptions } from './lib/options/settings.ts'
import { COOKIE_BUDGET } from './lib/http/cookies.ts'
import { createAccessToken } from './lib/session/access-token.ts'
import { registerRoutes } from './lib/routes/index.ts'
import { endSessions, parseSessionFilter, recordsOf } from './lib/logout/end-sessions.ts'
import { createUserinfo } from './lib/provider/userinfo-response.ts'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import type { Core } from './lib/compose.ts'
import type { Oidc, OidcOptions } from './types/index.ts'

/**
 * Makes a Fastify application an OpenID Connect relying party.
 * Throws an `OidcError` with the code `FST_OIDC_OPTION` when an option is wrong.
 */
const plugin: FastifyPluginAsync<OidcOptions> = async (app, options) => {
  const settings = parseOptions(options, app.prefix)
  warn(app, options)
  const core = await createCore(app, settings)
  const oidc = createOidc(core)
  rememberCore(oidc, core)
  decorate(app, core, oidc)
  documentRoutes(app, core)
  await registerRoutes(app, core, oidc)
  app.addHook('onReady', async () => await prepareKeys(core))
  for (const provider of core.providers.choices) {
    if (provider.settings.discovery === 'eager') await provider.discover()
  }
}

// The first token need not wait for its key; a store that is not there yet will be, when it is needed.
async function prepareKeys ({ broker, log }: Core): Promise<void> {
  await broker?.keys
    .current()
    .catch((error: OidcError) =>
      log.warn({ code: error.code, detail: error.detail }, 'the signing keys cannot be read yet')
    )
}

// What weakens the security of an application is not to go unnoticed (security.md S54).
function warn (
  { log }: FastifyInstance,
  { allowInsecureLoopback, broker, routes, audience, resource }: OidcOptions
): void {
  const passesThrough = broker === undefined && typeof routes?.token === 'string'
  if (passesThrough && audience === undefined && resource === undefined) {
    log.warn(
      '"routes.token" passes on tokens of the provider that are for no certain audience: set "audience" or "resource"'
    )
  }
  if (allowInsecureLoopback === true) log.warn('"allowInsecureLoopback" is set: http is for development only')
  if (process.env['NODE_TLS_REJECT_UNAUTHORIZED'] === '0') {
    log.error('NODE_TLS_REJECT_UNAUTHORIZED is 0: anybody on the way can pass for the identity provider')
  }
}

function createOidc (core: Core): Oidc {
  const accessToken = createAccessToken(core)
  return {
    required: createRequired(core, accessToken),
    optional: createOptional(core, accessToken),
    accessToken,
    userinfo: createUserinfo(core, accessToken),
    async login (request, reply, options = {}) {
      const returnTo = core.urls.returnTo(options.returnTo)
      const wishes = parseLoginOptions(options)
      const provider =
        options.provider === undefined
          ? await core.providers.ofRequest(request)
          : await findProvider(core, request, options.provider)
      if (provider === null) startChoice(core, request, reply, returnTo)
      else await startLogin(core, provider, request, reply, { ...wishes, returnTo })
      return reply
    },
    async logout (request, reply, { returnTo, federated = true } = {}) {
      await logout(core, request, reply, { returnTo: core.urls.returnTo(returnTo), federated })
      return reply
    },
    sessions: {
      async list (filter) {
        const found = []
        for await (const { session, sub } of recordsOf(core).list(parseSessionFilter(filter))) {
          found.push({ ...session, sub })
        }
        return found
      },
      async revoke (filter) {
        const ended = await endSessions(core, parseSessionFilter(filter), 'revoked')
        return ended.length
      }
    },
    broker: {
      revoke: async (filter) => await revokeGrants(brokerOf(core), filter),
      rotateKeys: async () => await brokerOf(core).keys.rotate()
    },
    async health () {
      const all = await Promise.all(
        core.providers.all().map(async ({ name, health }) => [name, await health()] as const)
      )
      return {
        status: all.every(([, { status }]) => status === 'ok') ? 'ok' : 'degraded',
        providers: Object.fromEntries(all)
      }
    }
  }
}

function decorate (app: FastifyInstance, core: Core, oidc: Oidc): void {
  app.decorate('oidc', oidc)
  app.decorateRequest('oidcClaims', null)
  app.decorateRequest('oidcUser', null)
  app.decorateRequest('oidcSession', null)
  app.decorateRequest('oidcToken', null)
  app.decorateRequest(core.sessions.key, null)
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
