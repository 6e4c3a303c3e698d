import Fastify from 'fastify'
import t from 'tap'
import oidc from '../../index.ts'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, optionsFor } from '../support/app.ts'
import { AUDIENCE } from '../support/broker.ts'
import { NAVIGATION } from '../support/navigation.ts'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'
import type { Provider } from '../../lib/testing/index.ts'

type Hook = 'onRequest' | 'preValidation' | 'preHandler'
type Guard = ReturnType<FastifyInstance['oidc']['required']>

/** An application in which one hook guards everything. */
async function startGuarded (
  t: Test,
  hook: Hook,
  guardOf: (app: FastifyInstance) => Guard,
  options: Partial<OidcOptions> = {}
): Promise<{ app: FastifyInstance, provider: Provider }> {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  await app.register(oidc, optionsFor(provider, options))
  app.addHook(hook as 'preHandler', guardOf(app))
  app.get('/', async ({ oidcClaims }) => ({ sub: oidcClaims?.sub ?? null }))
  app.get('/auth/secret', async () => 'secret')
  return { app, provider }
}

const HOOKS: Hook[] = ['onRequest', 'preValidation', 'preHandler']

for (const hook of HOOKS) {
  t.test(`K1 a guard as ${hook} hook for everything lets the routes of the plugin through`, async (t) => {
    const { app, provider } = await startGuarded(t, hook, ({ oidc }) => oidc.required(), {
      store: 'memory:',
      broker: { audience: AUDIENCE },
      routes: { initiateLogin: 'initiate-login' }
    })
    const browser = client({ app, baseUrl: BASE_URL })
    const page = await browser.goto('/')
    t.match([page.status, page.url, page.text()], [200, `${BASE_URL}/`, '{"sub":"alice"}'], 'the login ends')
    t.equal(provider.count('authorize'), 1)

    const anonymous = client({ app, baseUrl: BASE_URL })
    t.equal((await anonymous.step('/auth/login')).status, 302)
    t.equal((await anonymous.step(`/auth/initiate-login?iss=${encodeURIComponent(provider.issuer)}`)).status, 302)
    t.match((await anonymous.goto('/auth/callback?state=x')).text(), 'FST_OIDC_STATE')
    t.equal((await anonymous.step('/auth/logged-out')).status, 302)
    t.equal((await anonymous.fetch('/auth/session')).status, 401)
    t.equal((await anonymous.fetch('/auth/.well-known/jwks.json')).status, 200)
    t.equal((await anonymous.fetch('/.well-known/oauth-authorization-server')).status, 200)
    const refused = await app.inject({
      method: 'POST',
      url: '/auth/token',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      payload: 'grant_type=refresh_token&refresh_token=x'
    })
    t.match([refused.statusCode, refused.json()], [400, { error: 'invalid_grant' }], 'a program gets its own answer')
    t.equal((await app.inject({ method: 'PUT', url: '/auth/login' })).statusCode, 405, 'other methods too')

    const logout = await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, { app, sub: 'alice' })
    t.equal(logout.status, 200, 'the provider can log a user out')
    t.equal((await browser.fetch('/')).status, 401)
  })

  t.test(`K1 a guard as ${hook} hook guards all that is not of the plugin`, async (t) => {
    const { app } = await startGuarded(t, hook, ({ oidc }) => oidc.required())
    app.get('/config', { config: { 'fastify-oidc.own-routes': true } as object }, async () => 'secret')
    const urls = [
      '/', '/auth/secret', '/auth/SECRET', '/auth/unknown', '/auth/login/', '/auth/login%2f', '/auth//login',
      '/auth/../', '/unknown', '/config'
    ]
    for (const url of urls) t.equal((await app.inject(url)).statusCode, 401, url)
    t.equal((await app.inject({ method: 'OPTIONS', url: '/auth/login' })).statusCode, 401, 'no route of the plugin')
  })
}

t.test('K1 a guard of one registration lets the routes of another through, in any scope', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  await app.register(async (outer) => {
    await outer.register(oidc, optionsFor(provider))
    outer.addHook('preHandler', outer.oidc.required())
    outer.get('/', async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
    await outer.register(async (inner) => {
      inner.addHook('onRequest', outer.oidc.required({ roles: 'user' }))
      inner.get('/inner', async () => 'inner')
    })
  }, { prefix: '/one' })
  await app.register(async (other) => {
    await other.register(oidc, optionsFor(provider, { session: { key: SESSION_KEY, cookieName: 'two' } }))
    other.addHook('preHandler', other.oidc.optional({ silent: true }))
    other.get('/', async ({ oidcClaims }) => ({ sub: oidcClaims?.sub ?? null }))
  }, { prefix: '/two' })
  for (const path of ['/one/', '/one/inner', '/two/']) {
    const page = await client({ app, baseUrl: BASE_URL }).goto(path)
    t.match([page.status, page.url], [200, BASE_URL + path], page.text())
  }
})

t.test('K1 a silent guard as hook for everything does not catch its own callback', async (t) => {
  const { app, provider } = await startGuarded(t, 'onRequest', ({ oidc }) => oidc.optional({ silent: true }))
  const browser = client({ app, baseUrl: BASE_URL })
  const page = await browser.goto('/')
  t.match([page.status, page.json()], [200, { sub: null }])
  t.equal(provider.count('authorize'), 1)
  t.equal((await app.inject({ url: '/auth/login', headers: NAVIGATION })).statusCode, 302)
  t.equal(provider.count('authorize'), 1)
})

t.test('K1 a hook that awaits a guard lets the routes of the plugin through', async (t) => {
  const { app, provider } = await startGuarded(t, 'onRequest', ({ oidc }) => oidc.optional())
  const guard = app.oidc.required()
  app.addHook('onRequest', async (request, reply) => {
    if (request.url !== '/open') await guard(request, reply)
  })
  app.get('/open', async () => 'open')
  const browser = client({ app, baseUrl: BASE_URL })
  const page = await browser.goto('/')
  t.match([page.status, page.json()], [200, { sub: 'alice' }])
  t.equal(provider.count('authorize'), 1, 'the login ends')
  t.equal((await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, { app, sub: 'alice' })).status, 200)
  t.equal((await app.inject('/')).statusCode, 401)
  t.equal((await app.inject('/auth/unknown')).statusCode, 401)
  t.equal((await app.inject('/open')).statusCode, 200)
})
