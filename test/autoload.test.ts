import { join } from 'node:path'
import autoload from '@fastify/autoload'
import Fastify from 'fastify'
import t from 'tap'
import oidc from '../index.ts'
import { client, startProvider } from '../lib/testing/index.ts'
import { BASE_URL, optionsFor } from './support/app.ts'
import { captureLog } from './support/protocol.ts'
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions } from '../index.ts'

// @fastify/autoload, and fastify-cli, which uses it, add options of their own to each registration.

const PLUGIN = JSON.stringify(import.meta.resolve(import.meta.filename.endsWith('.js') ? '../index.js' : '../index.ts'))
const ITSELF = `export { default } from ${PLUGIN}`
const WRAPPER = `
  import oidc from ${PLUGIN}
  async function plugin (app, options) { await app.register(oidc, { ...options }) }
  plugin[Symbol.for('skip-override')] = true
  export default plugin
`
const PAGE = `
  export default async (app) => {
    app.get('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims }) => ({ sub: oidcClaims.sub }))
  }
`

interface Place {
  plugins: Record<string, string | Record<string, string>>
  /** What autoload and the command line add. */
  added?: Partial<OidcOptions>
  autoload?: { encapsulate?: boolean, dirNameRoutePrefix?: boolean, routeParams?: boolean }
  prefix?: string
}

const places: Record<string, Place> = {
  'a file': { plugins: { 'oidc.mjs': ITSELF } },
  'a file, with an empty prefix': { plugins: { 'oidc.mjs': ITSELF }, added: { prefix: '' } },
  'a file, with a prefix and levels of the log': {
    plugins: { 'oidc.mjs': ITSELF },
    added: { prefix: '/v1', logLevel: 'warn', logSerializers: { res: () => 'res' }, encapsulate: false },
    prefix: '/v1'
  },
  'a file with autoPrefix': { plugins: { 'oidc.mjs': `${ITSELF}\nexport const autoPrefix = '/v1/'` }, prefix: '/v1' },
  'a folder': { plugins: { sso: { 'index.mjs': ITSELF } }, prefix: '/sso' },
  'a folder, without its name': { plugins: { sso: { 'index.mjs': ITSELF } }, autoload: { dirNameRoutePrefix: false } },
  'a folder that overrides its name': {
    plugins: { sso: { 'oidc.mjs': `${ITSELF}\nexport const prefixOverride = ''` } }
  },
  'options of the file': {
    plugins: { 'oidc.mjs': `${ITSELF}\nexport const autoConfig = () => ({ routes: { prefix: '/own' }, prefix: '/v1' })` },
    prefix: '/v1/own'
  },
  'a wrapper': { plugins: { 'oidc.mjs': WRAPPER }, added: { prefix: 'v1/' }, prefix: '/v1' },
  'no scope of its own': { plugins: { 'oidc.mjs': ITSELF }, autoload: { encapsulate: false } }
}

async function start (t: Test, place: Place, server: FastifyServerOptions = {}): Promise<FastifyInstance> {
  const provider = await startProvider()
  const app = Fastify(server)
  t.teardown(async () => {
    await app.close()
    await provider.close()
  })
  const folder = t.testdir({ plugins: place.plugins, routes: { 'me.mjs': PAGE } })
  const options = { ...optionsFor(provider), ...place.added }
  await app.register(autoload, { dir: join(folder, 'plugins'), options, ...place.autoload })
  await app.register(autoload, { dir: join(folder, 'routes') })
  return app
}

for (const [name, place] of Object.entries(places)) {
  t.test(`K17 @fastify/autoload registers the plugin: ${name}`, async (t) => {
    const app = await start(t, place)
    const browser = client({ app, baseUrl: BASE_URL })
    const page = await browser.goto('/me')
    t.same([page.status, page.json()], [200, { sub: 'alice' }])
    const { prefix = '' } = place
    const auth = prefix === '/v1/own' ? prefix : `${prefix}/auth`
    t.match(page.history.map(({ url }) => new URL(url).pathname), ['/me', '/authorize', `${auth}/callback`, '/me'])
    t.equal((await app.inject(`${auth}/session`)).statusCode, 401)
    t.equal((await browser.fetch(`${auth}/session`)).status, 200)
    t.equal(prefix === '' || (await app.inject('/auth/session')).statusCode === 404, true, 'only there')
  })
}

t.test('K17 a prefix of the registration is added to that of the scope and that of the routes', async (t) => {
  const provider = await startProvider()
  const app = Fastify()
  t.teardown(async () => {
    await app.close()
    await provider.close()
  })
  await app.register(async (scope) => {
    const bearer = { audience: 'api' }
    await scope.register(oidc, { ...optionsFor(provider, { routes: { prefix: '/sso' }, bearer }), prefix: '/v1' })
    scope.get('/me', { preHandler: scope.oidc.required() }, async () => 'me')
  }, { prefix: '/app' })
  const page = await client({ app, baseUrl: BASE_URL }).goto('/app/me')
  t.equal(page.status, 200)
  t.match(page.history.map(({ url }) => new URL(url).pathname), [
    '/app/me', '/authorize', '/app/v1/sso/callback', '/app/me'
  ])
  const metadata = await app.inject('/app/.well-known/oauth-protected-resource')
  t.equal(metadata.statusCode, 200, 'the metadata stays where it is')
})

t.test('K17 the level and the serializers of the log are those of the plugin\'s routes only', async (t) => {
  const { lines, server } = captureLog()
  const res = ({ statusCode }: { statusCode: number }): string => `answered ${statusCode}`
  const req = (): string => { throw new Error('it would write codes to the log') }
  const place = { plugins: { 'oidc.mjs': ITSELF }, added: { logSerializers: { res, req } } }
  const app = await start(t, place, server)
  await app.inject('/auth/callback?code=secret')
  t.match(lines(), '"answered 400"')
  t.match(lines(), '"url":"/auth/callback"')
  t.notMatch(lines(), 'secret')
  await app.inject('/me')
  t.notMatch(lines(), 'answered 401')

  const quiet = captureLog()
  const silent = await start(t, { plugins: place.plugins, added: { logLevel: 'error' } }, quiet.server)
  await silent.inject('/auth/session')
  t.notMatch(quiet.lines(), '/auth/session')
  await silent.inject('/me')
  t.match(quiet.lines(), '"url":"/me"')
})

t.test('K17 a folder with a parameter is refused, and the message names resolveProvider', async (t) => {
  const place = { plugins: { _tenant: { 'index.mjs': ITSELF } }, autoload: { routeParams: true } }
  await t.rejects(start(t, place), { code: 'FST_OIDC_OPTION', message: /"prefix" .*"resolveProvider"/ })
})
