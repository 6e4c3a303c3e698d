import t from 'tap'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor, registrationOf, stopClock } from '../support/app.ts'
import { API, addRoutes, call, identity, tenantOf, tokenOf, tokenWith } from '../support/bearer.ts'
import { PROVIDER_API, clientsOf, exchange } from '../support/broker.ts'
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

t.test('K8 two registrations of one issuer are told apart by the client of the token, also in the cache', async (t) => {
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
  const [ofWeb, ofApp] = [tokenOf(provider), tokenWith(provider, { client_id: undefined, azp: 'app', jti: 'x' })]
  for (const [url, token, name] of [
    ['/api', ofWeb, 'web'],
    ['/api', ofWeb, 'web'],
    ['/app', ofApp, 'app'],
    ['/api', ofApp, 'app'],
    ['/api', ofWeb, 'web'],
    ['/app', ofApp, 'app']
  ] as const) {
    const { body } = await call(app, url, token)
    t.equal(body['token']?.provider ?? body['provider'], name)
  }
  for (let times = 0; times < 2; times++) {
    t.equal((await call(app, '/app', ofWeb)).status, 401, 'the token of another client is of the other registration')
  }
  for (const client of ['spa', undefined]) {
    const strange = tokenWith(provider, { client_id: client, azp: client ?? null })
    t.equal((await call(app, '/api', strange)).status, 401, 'a token of another client is of neither')
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

t.test('K8 registration refuses providers whose access tokens cannot be told apart', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const registration = registrationOf(provider)
  const build = async (one: object, two: object, bearer?: object) => await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    providers: { one: { ...registration, ...one }, two: { ...registration, ...two } },
    ...bearer
  })
  const bearer = { bearer: { audience: API } }
  for (const [one, two] of [
    [{}, {}],
    [{ clientIds: ['spa'] }, { clientIds: ['cli', 'spa'] }],
    [{ clientIds: ['spa', 'web'] }, {}]
  ] as const) {
    await t.rejects(
      build(one, two, bearer),
      { code: 'FST_OIDC_OPTION', message: /"providers.one" and "providers.two" have the same issuer.*"clientIds"/ }
    )
    await t.resolves(build(one, two), 'without "bearer" nothing has to be told apart')
  }
  const app = await build({ clientIds: ['spa'] }, { clientIds: ['cli', 'bot'] }, bearer)
  app.get('/api', { preHandler: app.oidc.required() }, identity)
  app.get('/t/:tenant', { preHandler: app.oidc.required({ provider: tenantOf }) }, identity)
  for (const [client, name] of [['spa', 'one'], ['cli', 'two'], ['bot', 'two']] as const) {
    const token = tokenWith(provider, { client_id: client })
    t.match((await call(app, '/api', token)).body, { token: { provider: name } })
    t.same([(await call(app, '/t/one', token)).status, (await call(app, '/t/two', token)).status].sort(), [200, 401])
  }
  t.equal((await call(app, '/api', tokenWith(provider))).status, 401, 'the client of neither')
  t.equal((await call(app, '/api', tokenWith(provider, { sub: 'bot', client_id: 'cli' }))).status, 403)
})

t.test('K8 "clientIds" limits the tokens of a single provider', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = await buildApp(t, optionsFor(provider, { bearer: { audience: API }, clientIds: ['spa'] }))
  t.equal((await call(app, '/me', tokenWith(provider, { client_id: 'spa' }))).status, 200)
  t.equal((await call(app, '/me', tokenWith(provider))).status, 401)
  await t.rejects(buildApp(t, optionsFor(provider, { clientIds: 'spa' as never })), { code: 'FST_OIDC_OPTION' })
})

t.test('K8 tenants with one issuer are told apart by the client, also in token exchange', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const tenant = (clientId: string): ResolvedProvider => ({ ...registrationOf(provider), clientId })
  const tenants: Record<string, ResolvedProvider> = { a: tenant('a'), b: tenant('b'), twin: tenant('b') }
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    store: 'memory:',
    bearer: { audience: PROVIDER_API },
    broker: { audience: API },
    resolveProvider: (_request, name = '') => tenants[name] ?? null
  })
  const { token: post, api } = clientsOf(app, provider)
  app.get('/t/:tenant', { preHandler: app.oidc.required({ provider: tenantOf }) }, identity)
  const tokenFor = (client: string): string => tokenWith(provider, { client_id: client, aud: PROVIDER_API })
  const ofB = tokenFor('b')
  const status = async (url: string, token: string): Promise<number> => (await call(app, url, token)).status
  for (let times = 0; times < 3; times++) t.equal(await status('/t/a', ofB), 200, 'the only known tenant of the issuer')
  t.equal(await status('/t/b', ofB), 200)
  for (let times = 0; times < 3; times++) {
    t.equal(await status('/t/a', ofB), 401, 'also from the cache, once the other tenant is known')
    t.equal(await status('/t/b', ofB), 200)
  }
  t.same([await status('/t/a', tokenFor('a')), await status('/t/b', tokenFor('a'))], [200, 401])
  t.equal(await status('/t/a', tokenFor('spa')), 401)
  const exchanged = (await exchange({ token: post }, ofB)).json()
  t.match((await api(exchanged.access_token)).json(), { token: { provider: 'b' } })
  t.match((await exchange({ token: post }, tokenFor('spa'))).json(), { error: 'invalid_grant' })

  t.equal(await status('/t/twin', tokenFor('b')), 401, 'two tenants with one client cannot be told apart')
  t.equal(await status('/t/b', tokenFor('b')), 401)
  t.match((await exchange({ token: post }, tokenFor('b'))).json(), { error: 'invalid_grant' })
})

t.test('K8 a tenant that claims the issuer of another one with other keys is refused', async (t) => {
  const clock = stopClock(t)
  const [acme, mallory] = [await startProvider(), await startProvider()]
  t.teardown(async () => { await acme.close(); await mallory.close() })
  const { issuer } = acme
  const claim = {
    ...registrationOf(acme),
    clientId: 'mallory',
    metadata: {
      issuer,
      authorization_endpoint: `${mallory.issuer}/authorize`,
      token_endpoint: `${mallory.issuer}/token`,
      jwks_uri: `${mallory.issuer}/jwks`
    }
  }
  const build = async (tenants: Record<string, ResolvedProvider>) => {
    const app = await buildApp(t, {
      baseUrl: BASE_URL,
      allowInsecureLoopback: true,
      session: { key: SESSION_KEY },
      bearer: { audience: API },
      resolveProvider: (_request, name = '') => tenants[name] ?? null
    })
    app.get('/api', { preHandler: app.oidc.required() }, identity)
    app.get('/t/:tenant', { preHandler: app.oidc.required({ provider: tenantOf }) }, identity)
    return async (url: string, token: string) => (await call(app, url, token)).status
  }
  const forged = tokenWith(mallory, { iss: issuer, client_id: 'mallory' })
  const good = tokenWith(acme)

  const first = await build({ acme: registrationOf(acme), mallory: claim, same: registrationOf(acme) })
  t.equal(await first('/t/acme', good), 200)
  for (let times = 0; times < 2; times++) t.equal(await first('/t/mallory', forged), 500)
  t.equal(await first('/api', forged), 401)
  t.equal(await first('/t/acme', good), 200)

  const second = await build({ acme: registrationOf(acme), mallory: claim, other: { ...claim, jwksUri: `${issuer}/jwks` } })
  for (let times = 0; times < 3; times++) t.equal(await second('/t/mallory', forged), 200, 'the only one with the issuer')
  t.equal(await second('/t/other', good), 500, 'without proof, the tenant that is known keeps the issuer')
  t.equal(await second('/t/acme', good), 200, 'the metadata below the issuer proves who it is')
  t.equal(await second('/t/mallory', forged), 500, 'also from the cache')
  t.equal(await second('/api', forged), 401)

  const tenants: Record<string, ResolvedProvider> = { acme: registrationOf(acme), mallory: registrationOf(mallory) }
  const third = await build(tenants)
  t.same([await third('/t/acme', good), await third('/t/mallory', tokenWith(mallory))], [200, 200])
  tenants['mallory'] = claim
  clock.advance(61)
  t.equal(await third('/t/mallory', forged), 500, 'a tenant may not change to it either')
  t.equal(await third('/api', forged), 401)
  t.equal(await third('/t/acme', good), 200)
})
