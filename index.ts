import fp from 'fastify-plugin'
import { compose } from './lib/compose.ts'
import { createOidc, decorate } from './lib/decorator.ts'
import { OidcError, reasonOf, refuse } from './lib/errors.ts'
import { watchRoutes } from './lib/guard/guarded-routes.ts'
import { parseOptions } from './lib/options/settings.ts'
import { isFetchChanged } from './lib/provider/global-fetch.ts'
import { registerRoutes } from './lib/routes/index.ts'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import type { Parts } from './lib/compose.ts'
import type { OidcOptions } from './types/index.ts'

/**
 * Makes a Fastify application an OpenID Connect relying party.
 * Throws an `OidcError` with the code `FST_OIDC_OPTION` when an option is wrong.
 */
const plugin: FastifyPluginAsync<OidcOptions> = async (app, options) => {
  const settings = parseOptions(options, app.prefix)
  warn(app, options, settings.session.secure)
  const parts = await compose(app, settings)
  const oidc = createOidc(parts)
  decorate(app, oidc, parts)
  watch(app, parts)
  announce(app, parts)
  await registerRoutes(app, parts)
  app.addHook('onReady', async () => await loadSigningKeys(parts))
  await discoverEagerly(parts)
}

// Options that weaken the security are logged, so that none of them stays on unnoticed, and how the provider is called.
function warn ({ log }: FastifyInstance, options: OidcOptions, secure: boolean): void {
  const { allowInsecureLoopback, broker, routes, audience, resource, fetch, dispatcher } = options
  const passesThrough = broker === undefined && typeof routes?.token === 'string'
  if (passesThrough && audience === undefined && resource === undefined) {
    log.warn('"routes.token" passes on tokens of the provider without a certain audience: set "audience" or "resource"')
  }
  if (allowInsecureLoopback === true) {
    log.warn('"allowInsecureLoopback" is set: http on loopback addresses is accepted, which is for development only')
  } else if (!secure) {
    log.warn('"baseUrl" is http on a loopback address: this is for development only, the session cookie is not "Secure"')
  }
  if (fetch === undefined && isFetchChanged(dispatcher)) {
    log.info('calls to the provider go through the global fetch, because it was replaced or given a dispatcher')
  }
  if (process.env['NODE_TLS_REJECT_UNAUTHORIZED'] === '0') {
    log.error('NODE_TLS_REJECT_UNAUTHORIZED is 0: an attacker on the network can impersonate the identity provider')
  }
}

/** What an operator registers at the provider. */
function announce ({ log }: FastifyInstance, { settings: { providers, resolveProvider }, urls }: Parts): void {
  const names = [...providers.keys(), ...(resolveProvider === undefined ? [] : ['{provider}'])]
  log.info({ redirectUris: names.map(urls.callback) }, 'register these redirect URIs at the identity provider')
}

/** Reads the config of the application's routes, and describes their guards in the document of @fastify/swagger. */
function watch (app: FastifyInstance, parts: Parts): void {
  const { settings, bearer, parseRefresh, providers: { choices } } = parts
  const guardedRoutes = watchRoutes(app, { settings, parseRefresh })
  const { cookieName } = settings.session
  const discoveryUrl = choices.length === 1 ? choices[0]?.settings.discoveryUrl : undefined
  app.addHook('onReady', async () => {
    if (!app.hasDecorator('swagger')) return
    const { documentRoutes } = await import('./lib/guard/openapi.ts')
    documentRoutes(app, guardedRoutes, { cookieName, hasBearer: bearer !== undefined, discoveryUrl })
  })
}

// So that the first token need not wait for its key. If the store is not available yet, the keys are loaded later.
async function loadSigningKeys ({ broker, log }: Parts): Promise<void> {
  await broker?.keys.current().catch((error: OidcError) => {
    log.warn(reasonOf(error), 'the signing keys cannot be read yet')
  })
}

async function discoverEagerly ({ providers }: Parts): Promise<void> {
  for (const provider of providers.choices) {
    if (provider.settings.discovery === 'eager') await provider.discover()
  }
}

/** The plugin: `await app.register(oidc, { issuer, clientId, clientSecret, baseUrl, session: { key } })` */
const oidc = fp(plugin, { fastify: '5.x', name: 'fastify-oidc' })
const commonjs = Object.assign(oidc, { OidcError, refuse })

export default oidc

/** What `require('fastify-oidc')` gives: the plugin, with the other exports as members. @internal */
export { commonjs as 'module.exports' }

export { OidcError, refuse }
export type { OidcErrorCode } from './lib/errors.ts'
export type * from './types/index.ts'
