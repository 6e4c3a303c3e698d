import Fastify from 'fastify'
import t from 'tap'
import auth from '@fastify/auth'
import oidc from '../../index.ts'
import { configOf } from '../../lib/guard/route-rules.ts'
import { client, sessionCookie, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, optionsFor, stopClock } from '../support/app.ts'
import { API, tokenOf } from '../support/bearer.ts'
import { NAVIGATION } from '../support/navigation.ts'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Test } from 'tap'
import type { GuardOptions, OidcOptions } from '../../index.ts'
import type { Provider } from '../../lib/testing/index.ts'

t.setTimeout(300_000) // where other work shares the cores

type Hook = 'onRequest' | 'preValidation' | 'preHandler'
const HOOKS: Hook[] = ['onRequest', 'preValidation', 'preHandler']

const sub = async ({ oidcClaims }: FastifyRequest) => ({ sub: oidcClaims?.sub ?? null })

interface World {
  app: FastifyInstance
  provider: Provider
}

async function start (t: Test, options: Partial<OidcOptions> = {}): Promise<World> {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  await app.register(oidc, optionsFor(provider, options))
  return { app, provider }
}

async function statusOf (app: FastifyInstance, url: string, roles?: string[], method: 'GET' | 'HEAD' = 'GET') {
  const headers = roles === undefined ? {} : { cookie: sessionCookie(app, { claims: { roles } }) }
  return (await app.inject({ method, url, headers })).statusCode
}

for (const hook of HOOKS) {
  t.test(`a route says to a guard as ${hook} hook for everything what it wants`, async (t) => {
    const { app, provider } = await start(t)
    app.addHook(hook as 'preHandler', app.oidc.required({ roles: ['staff', 'admin'] }))
    app.get('/plain', sub)
    app.get('/public', { config: { oidc: false } }, sub)
    app.get('/admin', { config: { oidc: { roles: 'admin' } } }, sub)
    await app.register(async (scope) => {
      scope.get('/', { config: { oidc: { roles: 'admin' } } }, sub)
      scope.get('/public', { config: { oidc: false } }, sub)
    }, { prefix: '/nested' })
    for (const method of ['GET', 'HEAD'] as const) {
      for (const url of ['/public', '/nested/public']) t.equal(await statusOf(app, url, undefined, method), 200, url)
      t.equal(await statusOf(app, '/plain', undefined, method), 401)
      t.equal(await statusOf(app, '/plain', [], method), 403)
      t.equal(await statusOf(app, '/plain', ['staff'], method), 200)
      for (const url of ['/admin', '/nested', '/nested/']) {
        t.equal(await statusOf(app, url, undefined, method), 401, `${method} ${url}`)
        t.equal(await statusOf(app, url, ['staff'], method), 403, `${method} ${url}`)
        t.equal(await statusOf(app, url, ['admin'], method), 200, `${method} ${url}`)
      }
    }
    t.equal(await statusOf(app, '/unknown'), 401, 'the handler for unknown routes is guarded')
    t.equal(await statusOf(app, '/unknown', ['staff']), 404)
    t.equal((await app.inject({ method: 'OPTIONS', url: '/public' })).statusCode, 401, 'no route: a preflight as well')
    provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, roles: ['admin'] }) })
    const page = await client({ app, baseUrl: BASE_URL }).goto('/admin')
    t.match([page.status, page.url], [200, `${BASE_URL}/admin`], 'the routes of the plugin work, and the login ends')
    t.equal(provider.count('authorize'), 1)
    const publicPage = await app.inject({ url: '/public', headers: { cookie: sessionCookie(app) } })
    t.same(publicPage.json(), { sub: null }, 'the guard has not read who it is')
  })
}

t.test('a login asks at once for what hook and route demand together', async (t) => {
  const { app, provider } = await start(t)
  stopClock(t)
  app.addHook('onRequest', app.oidc.required({ acr: ['gold', 'silver'], maxAge: 600 }))
  app.get('/', { config: { oidc: { acr: ['platinum', 'gold'], maxAge: 60 } } }, sub)
  app.get('/open', { config: { oidc: {} } }, sub)
  const searchOf = async (url: string): Promise<unknown> => {
    const { headers } = await app.inject({ url, headers: NAVIGATION })
    const { searchParams } = new URL(String(headers.location))
    return [searchParams.get('acr_values'), searchParams.get('max_age')]
  }
  t.same(await searchOf('/'), ['gold', '60'])
  t.same(await searchOf('/open'), ['gold silver', '600'])
  t.match((await app.inject('/')).json(), { max_age: 60, acr_values: 'gold' })
  t.equal(provider.count('authorize'), 0)
})

t.test('conditions of a route require a login where the guard is optional', async (t) => {
  const { app } = await start(t)
  app.addHook('onRequest', app.oidc.optional({ silent: true }))
  app.get('/maybe', sub)
  app.get('/me', { config: { oidc: {} } }, sub)
  app.get('/admin', { config: { oidc: { roles: 'admin' } } }, sub)
  t.same([await statusOf(app, '/maybe'), await statusOf(app, '/me'), await statusOf(app, '/admin')], [200, 401, 401])
  t.same([await statusOf(app, '/me', []), await statusOf(app, '/admin', [])], [200, 403])
  t.equal(await statusOf(app, '/admin', ['admin']), 200)
})

t.test('all kinds of conditions are added', async (t) => {
  const { app, provider } = await start(t, { bearer: { audience: API }, requiredClaims: { hd: 'example.com' } })
  const asked: string[] = []
  const passes = (name: string): NonNullable<GuardOptions['check']> => (_claims, { query }) => {
    asked.push(name)
    return (query as { fails?: string }).fails !== name
  }
  await app.register(async (scope) => {
    scope.addHook('onRequest', app.oidc.required({
      scopes: 'openid', claims: { team: ['red', 'blue'] }, check: passes('hook'), provider: 'default'
    }))
    scope.get('/both', {
      config: { oidc: { scopes: 'email', claims: { team: ['blue'] }, check: passes('route'), provider: () => 'default' } }
    }, sub)
    scope.get('/other', { config: { oidc: { provider: () => 'other' } } }, sub)
    scope.get('/session', { config: { oidc: { accept: ['session'] } } }, sub)
  })
  await app.register(async (scope) => {
    scope.addHook('onRequest', app.oidc.required({ accept: ['client', 'bearer'] }))
    scope.get('/jobs', { config: { oidc: { scopes: 'jobs' } } }, sub)
  })
  const hd = 'example.com'
  const get = async (url: string, team: string, scope = 'openid email', claims: object = { hd }) => {
    const headers = { cookie: sessionCookie(app, { claims: { ...claims, team }, scope }) }
    return (await app.inject({ url, headers })).statusCode
  }
  t.equal(await get('/both', 'blue'), 200)
  t.same(asked.splice(0), ['hook', 'route'])
  t.equal(await get('/both', 'red'), 403)
  t.equal(await get('/both', 'blue', 'openid'), 403)
  t.equal(await get('/both', 'blue', 'email'), 403)
  t.equal(await get('/both', 'blue', 'openid email', {}), 403, '"requiredClaims"')
  t.same(asked.splice(0), [])
  for (const name of ['hook', 'route']) t.equal(await get(`/both?fails=${name}`, 'blue'), 403, name)
  t.equal(await get('/other', 'blue'), 401, 'no provider is accepted by both')
  t.match((await app.inject({ url: '/other', headers: NAVIGATION })).statusCode, 404)
  const token = (scope: string) => ({ authorization: `Bearer ${tokenOf(provider, { scope, overrides: { hd, team: 'blue' } })}` })
  t.equal((await app.inject({ url: '/session', headers: token('openid email') })).statusCode, 401)
  t.equal((await app.inject({ url: '/both', headers: token('openid email') })).statusCode, 200)
  t.equal((await app.inject({ url: '/jobs', headers: token('openid') })).statusCode, 403)
  t.equal((await app.inject({ url: '/jobs', headers: token('openid jobs') })).statusCode, 200)
  t.equal(await get('/jobs', 'blue'), 401)
})

t.test('a route may ask for a fresh access token', async (t) => {
  const clock = stopClock(t)
  const { app, provider } = await start(t, { offlineAccess: true })
  app.addHook('onRequest', app.oidc.required())
  app.get('/', sub)
  app.get('/fresh', { config: { oidc: { refresh: true } } }, sub)
  provider.fault({ on: 'token', tokenResponse: (answer) => { answer['expires_in'] = 60 } })
  const browser = client({ app, baseUrl: BASE_URL })
  await browser.goto('/')
  clock.advance(50)
  await browser.fetch('/')
  t.equal(provider.count('token'), 1)
  await browser.fetch('/fresh')
  t.equal(provider.count('token'), 2)
})

t.test('a wrong config is refused when the route is registered, with its name', async (t) => {
  const { app } = await start(t)
  app.addHook('onRequest', app.oidc.required({ acr: 'gold' }))
  const wrong: Array<[unknown, RegExp]> = [
    [{ rolse: 'admin' }, /"rolse" is not an option of a guard/],
    [{ silent: true }, /"silent" is not an option of a guard/],
    [{ roles: [] }, /"roles"/],
    [{ refresh: 'yes' }, /"refresh"/],
    [{ accept: ['bearer'] }, /"accept" needs "bearer"/],
    [true, /must be false, or an object/], [null, /must be false/], [undefined, /must be false/],
    ['admin', /must be false/], [[], /must be false/]
  ]
  for (const [value, message] of wrong) {
    const config = { oidc: value } as object
    t.throws(() => app.get('/admin', { config }, sub), { code: 'FST_OIDC_OPTION', message }, message.source)
    t.throws(() => app.route({ method: ['PUT', 'POST'], url: '/all', config, handler: sub }), {
      message: /^"config.oidc" of PUT, POST \/all: /
    })
  }
  // @ts-expect-error not an option of a guard
  t.throws(() => app.get('/typed', { config: { oidc: { rolse: 'admin' } } }, sub), { code: 'FST_OIDC_OPTION' })
})

t.test('conditions that nothing checks, or that nothing can meet, stop the start', async (t) => {
  const { app: open } = await start(t)
  open.get('/admin', { config: { oidc: { roles: 'admin' } } }, sub)
  await t.rejects(async () => await open.ready(), { code: 'FST_OIDC_OPTION', message: /GET \/admin: it has conditions, and no guard/ })

  const { app: wrapped } = await start(t)
  await wrapped.register(auth)
  wrapped.addHook('preHandler', wrapped.auth([async () => {}, wrapped.oidc.required()]))
  wrapped.get('/key', { config: { oidc: { roles: 'admin' } } }, sub)
  await t.rejects(async () => await wrapped.ready(), { message: /GET \/key/ }, 'something else may let the request through')

  for (const [hook, route, message] of [
    [{ acr: 'gold' }, { acr: 'silver' }, /GET \/admin: its "acr"/],
    [{ accept: ['session' as const] }, { accept: ['client' as const] }, /GET \/admin: its "accept"/]
  ] as const) {
    const { app } = await start(t, { bearer: { audience: API } })
    app.addHook('onRequest', app.oidc.required(hook as GuardOptions))
    app.get('/admin', { config: { oidc: route as GuardOptions } }, sub)
    await t.rejects(async () => await app.ready(), { code: 'FST_OIDC_OPTION', message })
  }

  for (const [first, later] of [[undefined, false], [false, { roles: 'admin' }], [{ roles: 'admin' }, false]] as const) {
    const { app } = await start(t)
    app.addHook('onRequest', app.oidc.required())
    app.addHook('onRoute', (route) => { route.config = { ...route.config, oidc: later } })
    app.get('/late', { ...(first !== undefined && { config: { oidc: first } }) }, sub)
    await t.rejects(async () => await app.ready(), { code: 'FST_OIDC_OPTION', message: /GET \/late: an onRoute hook/ })
  }

  for (const first of [false, { roles: 'admin' }] as const) {
    const { app } = await start(t)
    app.addHook('onRequest', app.oidc.required())
    app.addHook('onRoute', (route) => { route.config = {} })
    app.get('/lost', { config: { oidc: first } }, sub)
    await t.rejects(async () => await app.ready(), { code: 'FST_OIDC_OPTION', message: /GET \/lost: an onRoute hook/ })
  }

  const { app: own } = await start(t)
  own.get('/admin', { preHandler: own.oidc.required(), config: { oidc: { roles: 'admin' } } }, sub)
  own.get('/public', { config: { oidc: false } }, sub)
  t.same([await statusOf(own, '/admin', []), await statusOf(own, '/admin', ['admin'])], [403, 200])
  t.equal(await statusOf(own, '/public'), 200)
})

t.test('V24 a public route leaves out the hooks of its scope, and no guard that it has itself', async (t) => {
  const { app } = await start(t)
  await app.register(auth)
  const guard = app.oidc.required()
  const byKey = async ({ headers }: FastifyRequest) => { if (headers['x-api-key'] !== 'key') throw new Error('no key') }
  app.addHook('onRequest', guard)
  await app.register(async (scope) => {
    scope.addHook('preHandler', guard)
    const config = { oidc: false as const }
    scope.get('/open', { config }, sub)
    scope.get('/awaited', { config }, async (request, reply) => {
      await guard(request, reply)
      return await sub(request)
    })
    scope.get('/same', { config, preHandler: guard }, sub)
    scope.get('/own', { config, preHandler: app.oidc.required({ roles: 'admin' }) }, sub)
    scope.get('/auth', { config, preHandler: app.auth([byKey, guard]) }, sub)
    scope.get('/early', { config, onRequest: app.auth([byKey, guard]) }, sub)
    scope.get('/gone', { config }, async (_request, reply) => { reply.callNotFound() })
  })
  const urls = ['/awaited', '/same', '/own', '/auth', '/early']
  t.equal(await statusOf(app, '/open'), 200)
  t.equal(await statusOf(app, '/gone'), 404)
  for (const url of urls) t.equal(await statusOf(app, url), 401, url)
  for (const url of urls.slice(0, 2)) t.equal(await statusOf(app, url, []), 200, url)
  t.same([await statusOf(app, '/own', []), await statusOf(app, '/own', ['admin'])], [403, 200])
  for (const url of ['/auth', '/early']) {
    t.equal((await app.inject({ url, headers: { 'x-api-key': 'key' } })).statusCode, 200, url)
    t.equal(await statusOf(app, url, []), 200, url)
  }
})

for (const hook of HOOKS) {
  t.test(`V22 a public route cannot pass on to the guarded handler for unknown routes, ${hook}`, async (t) => {
    const { app } = await start(t)
    app.addHook(hook as 'preHandler', app.oidc.required({ roles: 'staff' }))
    const config = { oidc: false as const }
    app.get('/gone', { config }, (_request, reply) => { reply.callNotFound() })
    app.get('/gone-later', { config }, async (_request, reply) => reply.callNotFound())
    app.setNotFoundHandler(async ({ oidcClaims }) => `a page for ${String(oidcClaims?.sub)}`)
    for (const url of ['/gone', '/gone-later', '/unknown']) {
      t.equal(await statusOf(app, url), 401, url)
      t.equal(await statusOf(app, url, []), 403, url)
      const headers = { cookie: sessionCookie(app, { claims: { roles: ['staff'] } }) }
      t.match((await app.inject({ url, headers })).body, 'a page for alice', url)
    }
  })
}

t.test('V22 a guard that fails in the handler for unknown routes lets nothing through', async (t) => {
  const { app } = await start(t)
  app.addHook('onRequest', app.oidc.required({ check: () => { throw new Error('a bug of the application') } }))
  app.get('/gone', { config: { oidc: false } }, (_request, reply) => { reply.callNotFound() })
  app.setNotFoundHandler(async () => 'a page')
  t.equal(await statusOf(app, '/gone', []), 500)
})

t.test('a public route may pass on to a handler for unknown routes that its guard is no hook of', async (t) => {
  const { app } = await start(t)
  app.setNotFoundHandler(async (_request, reply) => await reply.code(404).send('not here'))
  await app.register(async (scope) => {
    scope.addHook('onRequest', app.oidc.required())
    scope.get('/gone', { config: { oidc: false } }, async (_request, reply) => reply.callNotFound())
  })
  t.equal(await statusOf(app, '/unknown'), 404)
  t.equal(await statusOf(app, '/gone'), 404)
})

t.test('conditions that are no own members of a plain object are refused, and not lost', async (t) => {
  const { app } = await start(t)
  class Conditions {
    get roles (): string { return 'admin' }
  }
  const wrong = [new Map([['roles', 'admin']]), new Conditions(), Object.create({ roles: 'admin' }), ['admin']]
  for (const options of wrong as GuardOptions[]) {
    t.throws(() => app.get('/', { config: { oidc: options } }, sub), { code: 'FST_OIDC_OPTION' })
    t.throws(() => app.oidc.required(options), { code: 'FST_OIDC_OPTION' })
    t.throws(() => app.oidc.optional(options), { code: 'FST_OIDC_OPTION' })
  }
  t.doesNotThrow(() => app.oidc.required(Object.assign(Object.create(null), { roles: 'admin' }) as GuardOptions))
})

t.test('several registrations, each with its own hooks below its prefix', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  const scopes: FastifyInstance[] = []
  for (const [name, role] of [['one', 'admin'], ['two', 'boss']] as const) {
    await app.register(async (scope) => {
      const session = { key: optionsFor(provider).session.key as string, cookieName: name }
      await scope.register(oidc, optionsFor(provider, { session }))
      scope.addHook('onRequest', scope.oidc.required())
      scope.get('/public', { config: { oidc: false } }, sub)
      await scope.register(async (nested) => {
        nested.addHook('preHandler', scope.oidc.required({ roles: 'staff' }))
        nested.get('/top', { config: { oidc: { roles: role } } }, sub)
        nested.get('/public', { config: { oidc: false } }, sub)
      }, { prefix: '/nested' })
      scopes.push(scope)
    }, { prefix: `/${name}` })
  }
  await app.ready()
  const get = async (url: string, cookie: string) => (await app.inject({ url, headers: { cookie } })).statusCode
  const [one, two] = scopes as [FastifyInstance, FastifyInstance]
  const cookieOf = (scope: FastifyInstance, ...roles: string[]) => sessionCookie(scope, { claims: { roles } })
  for (const [scope, name, role] of [[one, 'one', 'admin'], [two, 'two', 'boss']] as const) {
    for (const url of [`/${name}/public`, `/${name}/nested/public`]) t.equal(await get(url, ''), 200, url)
    const url = `/${name}/nested/top`
    t.equal(await get(url, ''), 401)
    t.equal(await get(url, cookieOf(scope, 'staff')), 403)
    t.equal(await get(url, cookieOf(scope, role)), 403)
    t.equal(await get(url, cookieOf(scope, 'staff', role)), 200)
  }
  t.equal(await get('/two/nested/top', cookieOf(one, 'staff', 'admin', 'boss')), 401, 'sessions are apart')
})

t.test('a config that was not read is an error, not a route with fewer conditions', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  app.get('/early', { config: { oidc: { roles: 'admin' } } }, sub)
  app.get('/plain', sub)
  await app.register(oidc, optionsFor(provider))
  app.addHook('onRequest', app.oidc.required())
  t.equal(await statusOf(app, '/plain', []), 200)
  const { statusCode, body } = await app.inject({ url: '/early', headers: { cookie: sessionCookie(app) } })
  t.match([statusCode, body], [500, /FST_OIDC_OUTSIDE/])
  const publicConfig = { routeOptions: { config: { oidc: false } } } as unknown as FastifyRequest
  t.same(configOf(publicConfig), { oidc: false }, 'also where Fastify names its context in another way')
})

t.test('a guard that a hook awaits adds the conditions of the route', async (t) => {
  const { app } = await start(t)
  const guard = app.oidc.required()
  app.addHook('onRequest', app.oidc.optional())
  app.addHook('preHandler', async (request, reply) => { await guard(request, reply) })
  app.get('/admin', { config: { oidc: { roles: 'admin' } } }, sub)
  t.same([await statusOf(app, '/admin', []), await statusOf(app, '/admin', ['admin'])], [403, 200])
})
