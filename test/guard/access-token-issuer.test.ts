import t from 'tap'
import { startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor, registrationOf, startApp } from '../support/app.ts'
import { API, call, identity, tenantOf, tokenWith } from '../support/bearer.ts'
import { EXCHANGE, PROVIDER_API, start as startBroker } from '../support/broker.ts'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions, ResolvedProvider } from '../../index.ts'
import type { Provider, ProviderOptions } from '../../lib/testing/index.ts'

/** As AD FS writes it. */
const TRUST = 'http://fs.example.com/adfs/services/trust'
const OF_METADATA: ProviderOptions = { metadata: { access_token_issuer: TRUST } }

async function startProviders<const T extends ProviderOptions[]> (t: Test, ...options: T): Promise<Provider[]> {
  return await Promise.all(options.map(async (option) => {
    const provider = await startProvider(option)
    t.teardown(async () => await provider.close())
    return provider
  }))
}

async function startApi (t: Test, options: Partial<OidcOptions>): Promise<FastifyInstance> {
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    bearer: { audience: API },
    ...options
  } as OidcOptions)
  app.get('/api', { preHandler: app.oidc.required() }, identity)
  app.get('/t/:tenant', { preHandler: app.oidc.required({ provider: tenantOf }) }, identity)
  return app
}

const trusted = (provider: Provider): string => tokenWith(provider, { iss: TRUST })

t.test('K8 access tokens may name the access_token_issuer of the metadata, or a configured one', async (t) => {
  for (const [providerOptions, options] of [
    [OF_METADATA, {}],
    [{}, { accessTokenIssuer: TRUST }],
    [{ metadata: { access_token_issuer: 'https://another.example.com' } }, { accessTokenIssuer: TRUST }]
  ] as const) {
    const { app, provider } = await startApp(t, { bearer: { audience: API }, ...options }, providerOptions)
    app.get('/api', { preHandler: app.oidc.required() }, identity)
    for (let times = 0; times < 3; times++) {
      t.match(await call(app, '/api', trusted(provider)), { status: 200, body: { claims: { iss: provider.issuer } } })
    }
    const token = trusted(provider)
    for (let times = 0; times < 3; times++) t.equal((await call(app, '/api', token)).status, 200, 'also from the cache')
    t.equal((await call(app, '/api', tokenWith(provider))).status, 200, 'the issuer itself stays valid')
    t.equal((await call(app, '/api', tokenWith(provider, { iss: 'https://evil.test' }))).status, 401)
    const [other] = await startProviders(t, {})
    t.equal((await call(app, '/api', trusted(other as Provider))).status, 401, 'signed by the keys of another provider')
  }
})

t.test('K8 without an access_token_issuer no other iss is accepted', async (t) => {
  for (const access_token_issuer of [undefined, null, 5, ['x', TRUST]]) {
    const { app, provider } = await startApp(t, { bearer: { audience: API } }, { metadata: { access_token_issuer } })
    t.equal((await call(app, '/me', trusted(provider))).status, 401, String(access_token_issuer))
  }
})

t.test('K8 while the metadata cannot be had, an unknown iss is not refused for good', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API } }, OF_METADATA)
  const away = provider.fault({ on: 'metadata', status: 500 })
  const token = trusted(provider)
  const { statusCode, headers } = await app.inject({ url: '/me', headers: { authorization: `Bearer ${token}` } })
  t.match([statusCode, headers['retry-after']], [503, String])
  away()
  const [ill, well] = await startProviders(t, {}, OF_METADATA) as [Provider, Provider]
  ill.fault({ on: 'metadata', status: 500 })
  const several = await startApi(t, { providers: { ill: registrationOf(ill), well: registrationOf(well) } })
  t.match((await call(several, '/api', trusted(well))).body, { token: { provider: 'well' } })
})

t.test('K8 while the metadata cannot be had, a token that can never be ours is refused', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API } })
  provider.fault({ on: 'metadata', status: 500 })
  const statusOf = async (to: FastifyInstance, claims: Record<string, unknown>): Promise<number> =>
    (await call(to, '/me', tokenWith(provider, claims))).status
  for (const aud of ['https://another-api.example.com', [], null, undefined, { api: API }, [[API]]]) {
    t.equal(await statusOf(app, { iss: TRUST, aud }), 401, JSON.stringify(aud))
  }
  t.equal(provider.count('metadata'), 0, 'the provider was not asked')
  t.equal(await statusOf(app, { iss: TRUST, aud: [API] }), 503, 'a name that the metadata may have')
  const configured = await buildApp(t, optionsFor(provider, { bearer: { audience: API }, accessTokenIssuer: TRUST }))
  provider.clearRequests()
  t.equal(await statusOf(configured, { iss: 'https://evil.test' }), 401, 'the option names it')
  t.equal(provider.count('metadata'), 0)
  t.equal(await statusOf(configured, {}), 503)
})

t.test('K8 an access_token_issuer that another provider has is refused', async (t) => {
  const [one, two] = await startProviders(t, OF_METADATA, OF_METADATA) as [Provider, Provider]
  const registrations = { one: registrationOf(one), two: registrationOf(two) }
  const app = await startApi(t, { providers: registrations })
  for (const url of ['/api', '/t/one', '/t/two']) {
    for (const provider of [one, two]) t.equal((await call(app, url, trusted(provider))).status, 401, url)
  }
  const [plain] = await startProviders(t, { metadata: { access_token_issuer: one.issuer } }) as [Provider]
  const claiming = await startApi(t, { providers: { one: registrationOf(one), plain: registrationOf(plain) } })
  for (const url of ['/api', '/t/plain', '/t/one']) {
    t.equal((await call(claiming, url, tokenWith(plain, { iss: one.issuer }))).status, 401, url)
  }
  t.equal((await call(claiming, '/api', tokenWith(one))).status, 200)
  for (const [own, other] of [
    [{ accessTokenIssuer: TRUST }, { accessTokenIssuer: TRUST }],
    [{ accessTokenIssuer: two.issuer }, {}],
    [{}, { accessTokenIssuer: one.issuer }]
  ]) {
    await t.rejects(startApi(t, {
      providers: { one: { ...registrations.one, ...own }, two: { ...registrations.two, ...other } }
    }), { code: 'FST_OIDC_OPTION', message: /"providers.one" and "providers.two".*"accessTokenIssuer"/ })
  }
})

t.test('K8 an access_token_issuer that shows at run time to be that of another tenant is refused', async (t) => {
  const [acme, mallory] = await startProviders(t, {}, {}) as [Provider, Provider]
  const tenants: Record<string, ResolvedProvider> = {
    acme: { ...registrationOf(acme), accessTokenIssuer: TRUST },
    same: { ...registrationOf(mallory), accessTokenIssuer: TRUST },
    issuer: { ...registrationOf(mallory), accessTokenIssuer: acme.issuer }
  }
  for (const rival of ['same', 'issuer']) {
    const app = await startApi(t, { resolveProvider: (_request, name = '') => tenants[name] ?? null })
    const token = trusted(acme)
    for (let times = 0; times < 3; times++) t.equal((await call(app, '/t/acme', token)).status, 200)
    const claimed = tokenWith(mallory, { iss: rival === 'same' ? TRUST : acme.issuer })
    t.equal((await call(app, `/t/${rival}`, claimed)).status, 401)
    t.equal((await call(app, '/api', claimed)).status, 401)
    t.equal((await call(app, '/t/acme', token)).status, rival === 'same' ? 401 : 200, 'also from the cache')
    t.equal((await call(app, '/t/acme', tokenWith(acme))).status, 200, 'the issuer itself stays valid')
  }
})

t.test('K8 an access_token_issuer that the broker or a trusted issuer has is refused', async (t) => {
  const peer = 'https://peer.example.com'
  const broker = { audience: API, trustedIssuers: [peer] }
  for (const name of [BASE_URL, peer]) {
    const [provider] = await startProviders(t, { metadata: { access_token_issuer: name } }) as [Provider]
    const app = await startApi(t, { providers: { one: registrationOf(provider) }, store: 'memory:', broker })
    for (const url of ['/api', '/t/one']) {
      t.not((await call(app, url, tokenWith(provider, { iss: name }))).status, 200, `${name} ${url}`)
    }
    const [plain] = await startProviders(t, {}) as [Provider]
    await t.rejects(
      buildApp(t, optionsFor(plain, { accessTokenIssuer: name, store: 'memory:', broker })),
      { code: 'FST_OIDC_OPTION' }
    )
    const tenants = await startApi(t, {
      store: 'memory:',
      broker,
      resolveProvider: () => ({ ...registrationOf(plain), accessTokenIssuer: name })
    })
    t.equal((await tenants.inject('/auth/acme/login')).statusCode, 500)
  }
})

t.test('K8 a token with the access_token_issuer can be exchanged', async (t) => {
  const { provider, token, api } = await startBroker(t, { bearer: { audience: PROVIDER_API } }, OF_METADATA)
  const subject = provider.accessToken({ sub: 'alice', overrides: { aud: PROVIDER_API, iss: TRUST } })
  const response = (await token({ grant_type: EXCHANGE, subject_token: subject })).json()
  t.match((await api(response.access_token)).json(), { claims: { sub: 'alice' } })
})
