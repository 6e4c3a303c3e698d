import t from 'tap'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, registrationOf, stopClock } from '../support/app.ts'
import { API, addRoutes, call, identity, tenantOf, tokenOf, tokenWith } from '../support/bearer.ts'
import type { OidcOptions, ResolvedProvider } from '../../index.ts'
import type { Provider } from '../../lib/testing/index.ts'

t.test('V19 each of several providers signs only tokens of its own issuer', async (t) => {
  const [one, two] = [await startProvider(), await startProvider()]
  t.teardown(async () => {
    await one.close()
    await two.close()
  })
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    bearer: { audience: API, introspection: 'two' },
    providers: { one: registrationOf(one), two: registrationOf(two) }
  })
  addRoutes(app)
  app.get('/two', { preHandler: app.oidc.required({ provider: 'two' }) }, async ({ oidcToken }) => oidcToken?.provider)
  const status = async (token: string, url = '/api') =>
    (await app.inject({ url, headers: { authorization: `Bearer ${token}` } })).statusCode
  t.same([await status(tokenOf(one)), await status(tokenOf(two))], [200, 200])
  t.same([await status(tokenOf(one), '/two'), await status(tokenOf(two), '/two')], [401, 200])
  t.equal(
    await status(tokenOf(one, { overrides: { iss: two.issuer } })),
    401,
    'a token of one provider with the issuer of the other is refused'
  )
  await status('opaque')
  t.same(
    [one.count('introspection'), two.count('introspection')],
    [0, 1],
    'an opaque token is sent to the configured provider only'
  )
  t.same((await app.inject('/.well-known/oauth-protected-resource')).json().authorization_servers, [
    one.issuer,
    two.issuer
  ])
})

t.test('the provider of a route decides whose tokens it accepts', async (t) => {
  const [acme, other] = [await startProvider(), await startProvider()]
  t.teardown(async () => { await acme.close(); await other.close() })
  const all: Record<string, Provider> = { acme, other }
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    bearer: { audience: API },
    resolveProvider: (_request, name = '') =>
      all[name] === undefined ? null : { issuer: all[name].issuer, clientId: 'web', clientSecret: 'x' }
  })
  app.get(
    '/t/:tenant',
    { preHandler: app.oidc.required({ provider: ({ params }) => (params as { tenant: string }).tenant }) },
    async ({ oidcToken }) => ({ provider: oidcToken?.provider })
  )
  const send = async (url: string, provider: Provider) =>
    await app.inject({ url, headers: { authorization: `Bearer ${tokenOf(provider)}` } })
  t.same((await send('/t/acme', acme)).json(), { provider: 'acme' })
  t.same([(await send('/t/other', acme)).statusCode, (await send('/t/none', acme)).statusCode], [401, 401])
  t.notOk('authorization_servers' in (await app.inject('/.well-known/oauth-protected-resource')).json())
})

t.test('the cache serves both registrations of one issuer', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const { issuer } = provider
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    bearer: { audience: API },
    providers: {
      web: { issuer, clientId: 'web', clientSecret: 'x' },
      app: { issuer, clientId: 'app', clientSecret: 'x' }
    }
  })
  addRoutes(app)
  app.get('/app', { preHandler: app.oidc.required({ provider: 'app' }) }, async ({ oidcToken }) => ({
    provider: oidcToken?.provider
  }))
  const authorization = `Bearer ${tokenOf(provider)}`
  for (const [url, name] of [
    ['/api', 'web'],
    ['/api', 'web'],
    ['/app', 'app'],
    ['/api', 'web'],
    ['/app', 'app']
  ] as const) {
    const body = (await app.inject({ url, headers: { authorization } })).json()
    t.equal(body.token?.provider ?? body.provider, name)
  }
})

t.test('tokens of a tenant are refused when the tenant is removed or replaced', async (t) => {
  const clock = stopClock(t)
  const [acme, other] = [await startProvider(), await startProvider()]
  t.teardown(async () => {
    await acme.close()
    await other.close()
  })
  for (const later of [null, registrationOf(other)]) {
    let options: ResolvedProvider | null = registrationOf(acme)
    const app = await buildApp(t, {
      baseUrl: BASE_URL,
      allowInsecureLoopback: true,
      session: { key: SESSION_KEY },
      bearer: { audience: API },
      resolveProvider: (_request, name) => (name === 'acme' ? options : null)
    })
    app.get('/api', { preHandler: app.oidc.required() }, identity)
    app.get('/t/:tenant', { preHandler: app.oidc.required({ provider: tenantOf }) }, identity)
    const token = tokenWith(acme, { exp: Math.floor(Date.now() / 1000) + 1_000_000 })
    t.equal((await call(app, '/api', token)).status, 401, 'the tenant is not known before its first request')
    for (let times = 0; times < 3; times++) {
      t.same([(await call(app, '/t/acme', token)).status, (await call(app, '/api', token)).status], [200, 200])
    }
    options = later
    clock.advance(61)
    t.same(
      [(await call(app, '/api', token)).status, (await call(app, '/t/acme', token)).status],
      [401, 401],
      'cached tokens are refused'
    )
    for (const seconds of [3600, 86_400]) {
      clock.advance(seconds)
      t.equal((await call(app, '/api', tokenWith(acme))).status, 401, 'new tokens are refused')
    }
    if (later !== null) {
      t.same(
        [(await call(app, '/t/acme', tokenWith(other))).status, (await call(app, '/api', tokenWith(other))).status],
        [200, 200]
      )
    }
  }
})

t.test('the last of several guards decides who the user is', async (t) => {
  const [one, two] = [await startProvider(), await startProvider()]
  t.teardown(async () => {
    await one.close()
    await two.close()
  })
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    bearer: { audience: API },
    providers: { one: registrationOf(one), two: registrationOf(two) }
  } satisfies OidcOptions)
  const { optional, required } = app.oidc
  app.get('/two', { preHandler: [optional(), optional({ provider: 'two' })] }, identity)
  app.get('/session', { preHandler: [optional(), optional({ accept: ['session'] })] }, identity)
  app.get('/bearer', { preHandler: [optional(), optional({ accept: ['bearer'] })] }, identity)
  app.get('/either', { preHandler: required({ provider: ['one', 'two'] }) }, identity)
  app.get('/t/:tenant', { preHandler: required({ provider: tenantOf }) }, identity)
  const noUser = { claims: null, token: null, session: null, user: null }
  const token = tokenWith(one)
  t.same((await call(app, '/session', token)).body, noUser)
  const browser = client({ app, baseUrl: BASE_URL })
  await browser.goto('/auth/one/login')
  for (const url of ['/two', '/bearer']) t.same((await browser.fetch(url)).json(), noUser, url)

  for (let times = 0; times < 3; times++) t.equal((await call(app, '/either', token)).status, 200)
  t.equal((await call(app, '/t/one%20two', token)).status, 401, 'two names joined by a space are not one name')
  t.equal((await call(app, '/t/one', token)).status, 200)
})

t.test('an opaque token is sent to no provider but the configured one', async (t) => {
  const [one, two] = [await startProvider(), await startProvider()]
  t.teardown(async () => {
    await one.close()
    await two.close()
  })
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    bearer: { audience: API, introspection: 'one' },
    providers: { one: registrationOf(one), two: registrationOf(two) }
  })
  app.get('/two', { preHandler: app.oidc.required({ provider: 'two' }) }, identity)
  t.equal((await call(app, '/two', 'opaque')).status, 401)
  t.same([one.count('introspection'), two.count('introspection')], [0, 0])
})
