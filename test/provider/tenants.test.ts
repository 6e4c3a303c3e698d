import fc from 'fast-check'
import t from 'tap'
import { createProviders } from '../../lib/provider/providers.ts'
import { parseOptions } from '../../lib/options/settings.ts'
import { client, sessionCookie, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, stopClock, silentLog } from '../support/app.ts'
import { SESSION_COOKIE, authorizationParams, captureLog } from '../support/protocol.ts'
import type { FastifyInstance, FastifyRequest, FastifyServerOptions } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions, ProviderOptions, ResolvedProvider } from '../../index.ts'
import type { Provider, TestBrowser } from '../../lib/testing/index.ts'

type Tenants = Record<string, ResolvedProvider | null>

interface World {
  app: FastifyInstance
  clock: ReturnType<typeof stopClock>
  acme: Provider
  globex: Provider
  /** The options by tenant, which a test can change. */
  tenants: Tenants
  /** The names that the plugin asked for, oldest first. */
  asked: Array<string | undefined>
  /** Makes `resolveProvider` fail. */
  fail: (error: Error | null) => void
  browser: () => TestBrowser
}

const shared = { baseUrl: BASE_URL, session: { key: SESSION_KEY, idleTimeout: 28_800 }, allowInsecureLoopback: true }

function optionsOf (provider: Provider, options: Partial<ProviderOptions> = {}): Partial<ProviderOptions> {
  return {
    issuer: provider.issuer,
    clientId: 'web',
    clientSecret: provider.clients[0]?.client_secret as string,
    ...options
  }
}

async function startedProvider (t: Test, sub: string): Promise<Provider> {
  const provider = await startProvider({
    users: [{ sub }],
    refreshTokens: 'always',
    clients: [
      { client_id: 'web', client_secret: `the secret of ${sub}` },
      { client_id: 'other', client_secret: 'other secret' }
    ]
  })
  t.teardown(async () => await provider.close())
  return provider
}

async function start (t: Test, options: Partial<OidcOptions> = {}, server: FastifyServerOptions = {}): Promise<World> {
  const clock = stopClock(t)
  const [acme, globex] = [await startedProvider(t, 'alice of acme'), await startedProvider(t, 'gina of globex')]
  const tenants: Tenants = { acme: optionsOf(acme), globex: optionsOf(globex) }
  const asked: World['asked'] = []
  let failure: Error | null = null
  const resolveProvider: OidcOptions['resolveProvider'] = async (request, name) => {
    asked.push(name)
    if (failure !== null) throw failure
    if (name !== undefined) return Object.hasOwn(tenants, name) ? tenants[name] : null
    const wanted = request.headers['x-tenant']
    return wanted === undefined ? null : { name: String(wanted) }
  }
  const app = await buildApp(t, { ...shared, resolveProvider, ...options }, server)
  const provider = ({ params }: FastifyRequest): string => (params as { tenant: string }).tenant
  const whoIs = async ({ oidcClaims, oidcSession }: FastifyRequest) => ({
    sub: oidcClaims?.sub,
    provider: oidcSession?.provider
  })
  app.get('/t/:tenant/home', { preHandler: app.oidc.required({ provider }) }, whoIs)
  app.get('/t/:tenant', { preHandler: app.oidc.optional({ provider }) }, whoIs)
  app.get('/fixed', { preHandler: app.oidc.required({ provider: ['acme', 'not yet there'] }) }, whoIs)
  app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
  return {
    app,
    clock,
    acme,
    globex,
    tenants,
    asked,
    fail: (error) => {
      failure = error
    },
    browser: () => client({ app, baseUrl: BASE_URL })
  }
}

/** A browser in which a user of the tenant has logged in. */
async function logIn (t: Test, { browser }: World, tenant: string): Promise<TestBrowser> {
  const own = browser()
  const page = await own.goto(`/auth/${tenant}/login?return_to=/me`)
  t.match([page.status, page.url], [200, `${BASE_URL}/me`], `${tenant}: ${page.text().slice(-300)}`)
  return own
}

const removesSession = ({ headers }: { headers: Headers }): boolean =>
  headers.getSetCookie().some((line) => line.startsWith(`${SESSION_COOKIE}=; Max-Age=0`))

t.test('each tenant has its login and callback, and is asked for once a minute', async (t) => {
  const world = await start(t)
  const { acme, globex, asked, clock, app } = world
  const person = await logIn(t, world, 'acme')
  t.match((await person.fetch('/me')).json(), { claims: { sub: 'alice of acme' }, session: { provider: 'acme' } })
  await logIn(t, world, 'globex')
  t.same(asked, ['acme', 'globex'])
  clock.advance(59)
  await person.fetch('/me')
  t.equal(asked.length, 2)
  clock.advance(1)
  await Promise.all(Array.from({ length: 20 }, async () => await person.fetch('/me')))
  t.same(asked, ['acme', 'globex', 'acme'], 'once for all requests that wait')
  t.same(
    [acme.count('metadata'), acme.count('jwks'), globex.count('metadata')],
    [1, 1, 1],
    'and the same options keep metadata and keys'
  )
  t.match(
    authorizationParams({ location: (await app.inject('/auth/login?provider=globex')).headers.location as string }),
    { redirect_uri: `${BASE_URL}/auth/globex/callback` }
  )
  t.match(await app.oidc.health(), { status: 'ok', providers: { acme: { status: 'ok' }, globex: { status: 'ok' } } })
  t.equal(
    (await app.inject({ url: '/me', headers: { cookie: sessionCookie(app, { provider: 'globex' }) } })).statusCode,
    200
  )
})

t.test('S55 unknown and invalid tenant names', async (t) => {
  const { app, asked } = await start(t)
  for (const name of [
    'other',
    '__proto__',
    'constructor',
    '..',
    '%2e%2e',
    'a%2fb',
    'x'.repeat(65),
    '%00',
    'ä',
    '%20',
    '-a',
    'a%0d%0ab',
    'a:b'
  ]) {
    for (const url of [
      `/auth/${name}/login`,
      `/auth/${name}/callback?code=x&state=y`,
      `/auth/login?provider=${name}`
    ]) {
      const response = await app.inject({ url, headers: { accept: 'text/html' } })
      t.ok([400, 404].includes(response.statusCode), `${response.statusCode} ${url}`)
      t.notOk(response.headers.location)
      t.notOk(response.headers['set-cookie'])
    }
  }
  t.same(
    [...new Set(asked.filter((name) => name !== undefined))],
    ['other', 'constructor'],
    'the application hears only of names'
  )
})

t.test('a login without a tenant name is for the tenant of the request', async (t) => {
  const { app } = await start(t)
  for (const url of ['/me', '/auth/login']) {
    const headers = { accept: 'text/html', 'x-tenant': 'acme' }
    t.match(authorizationParams({ location: (await app.inject({ url, headers })).headers.location as string }), {
      redirect_uri: `${BASE_URL}/auth/acme/callback`
    })
    t.equal(
      (await app.inject({ url, headers: { ...headers, 'x-tenant': 'other' } })).headers.location,
      url === '/me' ? `${BASE_URL}/auth/login?return_to=https%3A%2F%2Fapp.example.com%2Fme` : undefined
    )
  }
  const nowhere = await app.inject({ url: '/auth/login?return_to=/me', headers: { accept: 'text/html' } })
  t.match(
    [nowhere.statusCode, nowhere.body],
    [404, /FST_OIDC_PROVIDER_UNKNOWN/],
    'the tenants are not listed'
  )
})

t.test('a page of the application for the choice of a tenant', async (t) => {
  const { app, browser } = await start(t, { loginPage: '/sign-in' })
  app.get('/sign-in', async (request) => request.query)
  t.same((await browser().goto('/me')).json(), { return_to: `${BASE_URL}/me` })
})

t.test('S16 a session of one tenant counts as no session at another', async (t) => {
  const world = await start(t)
  const { app } = world
  const alice = await logIn(t, world, 'acme')
  t.same((await alice.fetch('/t/acme/home')).json(), { sub: 'alice of acme', provider: 'acme' })
  const refused = await alice.fetch('/t/globex/home')
  t.equal(refused.status, 401)
  t.notMatch(refused.text(), /alice|acme/)
  t.same((await alice.fetch('/t/globex')).json(), {})
  t.match(authorizationParams(await alice.step('/t/globex/home')), { redirect_uri: `${BASE_URL}/auth/globex/callback` })
  t.equal((await alice.step('/t/other/home')).status, 404)
  t.equal((await app.inject({ url: '/t/acme/home' })).statusCode, 401)
  t.equal((await alice.fetch('/fixed')).status, 200)
})

t.test('S16 V19 cookies and responses of one tenant are refused at another', async (t) => {
  const world = await start(t)
  const { acme, globex, tenants, app } = world
  const browser = world.browser()
  const stop = async (name: string): Promise<URL> =>
    new URL(
      (
        await browser.goto(`/auth/${name}/login?return_to=/me`, {
          until: ({ pathname }) => pathname.endsWith('/callback')
        })
      ).location as string
    )

  const mixed = await stop('acme')
  mixed.pathname = '/auth/globex/callback'
  t.match((await browser.goto(mixed.href)).text(), 'FST_OIDC_RESPONSE_ISSUER')
  t.equal(globex.count('token'), 0)

  // The administrator of one tenant signs a token with the claims and the key id of the other tenant.
  acme.fault({
    on: 'token',
    idToken: (claims, header) => {
      claims['iss'] = globex.issuer
      header['kid'] = String(globex.jwks().keys[0]?.kid)
    }
  })
  t.match((await browser.goto('/auth/acme/login?return_to=/me')).text(), 'FST_OIDC_ID_TOKEN')
  acme.clearFaults()

  // Two clients of one provider, and one client at two providers
  tenants['twin'] = optionsOf(acme, { clientId: 'other', clientSecret: 'other secret' })
  const twin = await logIn(t, world, 'twin')
  const alice = await logIn(t, world, 'acme')
  t.equal((await alice.fetch('/t/twin/home')).status, 401)
  t.equal((await twin.fetch('/t/acme/home')).status, 401)
  tenants['acme'] = tenants['twin']
  world.clock.advance(61)
  t.equal((await twin.fetch('/me')).status, 200)
  t.equal(
    (await app.inject({ url: '/me', headers: { cookie: alice.cookies.header(`${BASE_URL}/me`) } })).statusCode,
    401,
    'the name alone is not the tenant'
  )
})

t.test('S16 each tenant has its own response mode', async (t) => {
  const world = await start(t)
  world.tenants['acme'] = optionsOf(world.acme, { responseMode: 'form_post' })
  await logIn(t, world, 'acme')
  await logIn(t, world, 'globex')
  t.equal((await world.app.inject('/auth/acme/callback?code=x&state=y')).statusCode, 405)
  t.equal((await world.app.inject({ method: 'POST', url: '/auth/globex/callback' })).statusCode, 405)
})

t.test('a tenant is added, changed and removed while the application runs', async (t) => {
  const world = await start(t)
  const { app, clock, tenants, acme, globex } = world
  t.equal((await app.inject('/auth/new/login')).statusCode, 404)
  tenants['new'] = optionsOf(acme)
  const added = await logIn(t, world, 'new')
  t.equal((await added.fetch('/me')).status, 200)

  const alice = await logIn(t, world, 'acme')
  tenants['acme'] = optionsOf(acme, { scope: 'openid' })
  clock.advance(61)
  t.match(authorizationParams({ location: (await app.inject('/auth/acme/login')).headers.location as string }), {
    scope: 'openid'
  })
  t.equal((await alice.fetch('/me')).status, 200, 'other settings of the same client end no session')

  const waiting = await alice.goto('/auth/acme/login?return_to=/me', {
    until: ({ pathname }) => pathname.endsWith('/callback')
  })
  tenants['acme'] = optionsOf(globex)
  clock.advance(61)
  const after = await alice.fetch('/me')
  t.equal(after.status, 401, 'another provider under the old name')
  t.ok(removesSession(after))
  const late = await alice.goto(waiting.location as string)
  t.match([late.status, late.text()], [400, /FST_OIDC_RESPONSE_ISSUER/])
  t.equal(globex.count('token'), 0)

  const removed = await logIn(t, world, 'globex')
  const kept = removed.cookies.header(`${BASE_URL}/me`)
  const late2 = await removed.goto('/auth/globex/login', { until: ({ pathname }) => pathname.endsWith('/callback') })
  tenants['globex'] = null
  t.equal((await removed.fetch('/me')).status, 200, 'for a minute it is still known')
  clock.advance(61)
  t.equal((await removed.goto(late2.location as string)).status, 404)
  t.match((await removed.fetch('/token')).json(), { statusCode: 401 })
  const gone = await removed.fetch('/me')
  t.equal(gone.status, 401)
  t.equal((await added.fetch('/me')).status, 200, 'others go on')
  const bye = await app.inject({
    method: 'POST',
    url: '/auth/logout',
    headers: { cookie: kept, 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'navigate' }
  })
  t.match(
    [bye.statusCode, bye.headers.location],
    [303, `${BASE_URL}/`],
    'a logout sends no request to the provider, and removes the cookies'
  )
  t.match(String(bye.headers['set-cookie']), `${SESSION_COOKIE}=; Max-Age=0`)
  t.equal(globex.count('revocation'), 0)
})

t.test('R3 while resolveProvider fails, known tenants work, and sessions stay', async (t) => {
  const { lines, server } = captureLog()
  const world = await start(t, {}, server)
  const { app, clock, fail, asked } = world
  const alice = await logIn(t, world, 'acme')
  fail(new Error('no connection to the database'))
  clock.advance(61)
  t.equal((await alice.fetch('/me')).status, 200)
  t.equal((await alice.goto('/auth/acme/login?return_to=/me')).status, 200)
  const before = asked.length
  const cookie = alice.cookies.header(`${BASE_URL}/me`)
  const answers = await Promise.all(
    Array.from({ length: 50 }, async () => await app.inject({ url: '/me', headers: { cookie } }))
  )
  t.ok(answers.every(({ statusCode }) => statusCode === 200))
  t.ok(asked.length - before <= 1, 'a failure is not tried again at once')
  const unknown = await app.inject({ url: '/auth/globex/login', headers: { accept: 'text/html' } })
  t.match([unknown.statusCode, unknown.headers['retry-after']], [503, '5'])
  t.notMatch(unknown.body, 'database')
  t.match(lines(), 'resolveProvider: no connection to the database')

  clock.advance(601)
  for (const url of ['/me', '/maybe', '/auth/session', '/token', '/t/acme']) {
    const response = await app.inject({ url, headers: { cookie } })
    t.match(
      [response.statusCode, response.headers['set-cookie']],
      [503, undefined],
      `${url}: neither anonymous nor logged out`
    )
  }
  const bye = await app.inject({
    method: 'POST',
    url: '/auth/logout',
    headers: { cookie, 'sec-fetch-site': 'same-origin' }
  })
  t.equal(bye.statusCode, 503, 'a logout does not claim success')
  t.equal((await app.inject('/me')).statusCode, 401, 'a request without a session needs no tenant')
  fail(null)
  clock.advance(2)
  t.equal((await app.inject({ url: '/me', headers: { cookie } })).statusCode, 200, 'and it recovers by itself')
  const rejecting = await buildApp(t, { ...shared, resolveProvider: async () => await Promise.reject(new Error('no')) })
  t.equal((await rejecting.inject('/auth/acme/login')).statusCode, 503)
  const throwing = await buildApp(t, {
    ...shared,
    resolveProvider: () => {
      throw 'no' // eslint-disable-line no-throw-literal
    }
  })
  t.equal((await throwing.inject('/auth/acme/login')).statusCode, 503)
})

t.test('R2 a call of resolveProvider that never returns ends for its own request only', async (t) => {
  const never = async (): Promise<null> => await new Promise(() => {})
  let hanging = 1
  const world = await start(t, {
    timeout: 0.2,
    resolveProvider: async (_request, name = 'acme') => {
      asked.push(name)
      return hanging-- > 0 ? await never() : { name, ...tenants[name] }
    }
  })
  const { app, asked, tenants, clock } = world
  tenants['acme'] = optionsOf(world.acme, { timeout: 20 })
  const begin = async (url = '/auth/acme/login'): Promise<number> => (await app.inject(url)).statusCode
  t.same(await Promise.all([begin(), begin(), begin()]), [503, 302, 302])
  t.equal(asked.length, 2, 'those that have waited call again, together')
  t.equal(await begin(), 302)

  const alice = await logIn(t, world, 'acme')
  clock.advance(61)
  hanging = 1
  t.equal((await alice.fetch('/me')).status, 200, 'a tenant that is known goes on')
  hanging = 1
  t.equal(await begin('/auth/login'), 503, 'also when the tenant of the request is asked for')
  t.equal(await begin('/auth/login'), 302)
  hanging = 2
  t.same(await Promise.all([begin('/auth/globex/login'), begin('/auth/globex/login')]), [503, 503])
  t.equal(await begin('/auth/acme/login'), 302)
})

t.test('wrong options of a tenant are logged', async (t) => {
  const { lines, server } = captureLog()
  const { app, tenants } = await start(t, {}, server)
  const wrong: ResolvedProvider[] = [
    {},
    { issuer: 'x', clientId: 'web' },
    { issuer: 'https://id.example.com', clientId: 'web', clientSecret: 'top secret', ...{ colour: 'red' } },
    7 as never
  ]
  for (const [index, options] of wrong.entries()) {
    tenants[`wrong${index}`] = options
    const response = await app.inject({ url: `/auth/wrong${index}/login` })
    t.match(response.json(), { statusCode: 500, code: 'FST_OIDC_UNEXPECTED', message: 'Something went wrong.' })
  }
  t.match(lines(), /colour/)
  t.notMatch(lines(), /top secret/)
})

t.test('S16 resolveProvider must return the tenant of the name', async (t) => {
  const world = await start(t)
  world.tenants['acme'] = { ...optionsOf(world.globex), name: 'globex' }
  t.equal((await world.app.inject('/auth/acme/login')).statusCode, 500)
})

t.test('resolveMaxAge 0 asks each time', async (t) => {
  const world = await start(t, { resolveMaxAge: 0 })
  const { asked, tenants, app } = world
  const alice = await logIn(t, world, 'acme')
  const before = asked.length
  t.match((await alice.fetch('/me')).json(), { session: { provider: 'acme' } })
  t.match((await alice.fetch('/token')).json(), { token: /./ })
  t.equal((await alice.fetch('/auth/userinfo')).status, 200)
  t.ok(asked.length > before)
  t.equal(world.acme.count('metadata'), 1)
  const cookie = alice.cookies.header(`${BASE_URL}/me`)
  tenants['acme'] = null
  t.equal((await app.inject({ url: '/me', headers: { cookie } })).statusCode, 401, 'at once')
})

t.test('R26 many requests for a tenant: one resolveProvider, one discovery, one request for keys', async (t) => {
  const { app, asked, acme, browser } = await start(t)
  const answers = await Promise.all(Array.from({ length: 200 }, async () => await app.inject('/auth/acme/login')))
  t.ok(answers.every(({ statusCode }) => statusCode === 302))
  t.same([asked.length, acme.count('metadata')], [1, 1])
  await Promise.all(Array.from({ length: 30 }, async () => await browser().goto('/auth/acme/login')))
  t.equal(acme.count('jwks'), 1)
})

t.test('R32 a thousand tenants are cached, and unknown names do not replace them', async (t) => {
  let asked = 0
  const settings = parseOptions({
    ...shared,
    resolveProvider: (_request, name = '') => {
      asked += 1
      return name.startsWith('tenant') ? { issuer: `https://${name}.example.com`, clientId: 'web' } : null
    }
  })
  const providers = createProviders(settings, silentLog)
  const request = {} as FastifyRequest
  for (let count = 0; count < 1000; count++) await providers.find(request, `tenant${count}`)
  for (let count = 0; count < 3000; count++) await providers.find(request, `nobody${count}`)
  t.equal(asked, 4000)
  t.equal(providers.all().length, 1000)
  t.ok(providers.known('tenant0'), 'a thousand')
  await providers.find(request, 'tenant1000')
  t.equal(providers.known('tenant0'), undefined, 'past the limit the oldest is refreshed again')
  t.equal((await providers.find(request, 'tenant0'))?.name, 'tenant0')
  t.equal(providers.all().length, 1000)
})

t.test('R38 no tenant name causes a 5xx or a redirect elsewhere', async (t) => {
  const { app, acme, globex } = await start(t)
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(fc.string(), fc.constantFrom('acme', 'globex')),
      fc.constantFrom('login', 'callback'),
      async (name, route) => {
        for (const url of [
          `/auth/${encodeURIComponent(name)}/${route}`,
          `/auth/login?provider=${encodeURIComponent(name)}`
        ]) {
          const { statusCode, headers } = await app.inject({ url, headers: { accept: 'text/html' } })
          if (
            statusCode >= 500 ||
            (headers.location !== undefined && ![acme.url, globex.url].includes(new URL(headers.location).origin))
          ) { return false }
        }
        return true
      }
    ),
    { numRuns: 200 }
  )
})
