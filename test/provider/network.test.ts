import { Agent, ProxyAgent } from 'undici'
import t from 'tap'
import { client, startProvider, testCertificate } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor } from '../support/app.ts'
import { startProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'
import type { Fault, Provider, ProviderClient, ProviderOptions } from '../../lib/testing/index.ts'

const server = testCertificate()
const ours = testCertificate('web of fastify-oidc')
const trusting = { ca: server.cert }

/** Every call of the plugin to a provider. */
const CALLS = ['metadata', 'par', 'token', 'jwks', 'userinfo', 'token', 'userinfo', 'revocation']

async function startTls (
  t: Test,
  options: ProviderOptions = {},
  registered: Partial<ProviderClient> = { client_secret: 'secret of web' }
): Promise<Provider> {
  const provider = await startProvider({
    tls: { ...server, requestCert: true, rejectUnauthorized: false },
    accessTokenTtl: 20,
    refreshTokens: 'always',
    clients: [{ client_id: 'web', ...registered }],
    ...options
  })
  t.teardown(async () => await provider.close())
  return provider
}

/** Makes every call once, and returns those that reached the provider. */
async function everything (t: Test, provider: Provider, options: Partial<OidcOptions>): Promise<string[]> {
  const app = await buildApp(t, optionsFor(provider, { userinfo: true, pushedAuthorizationRequests: true, ...options }))
  app.get('/userinfo', { preHandler: app.oidc.required() }, async (request) => await app.oidc.userinfo(request)) // whose token is about to expire
  const browser = client({ app, baseUrl: BASE_URL, ca: server.cert })
  const page = await browser.goto('/me')
  t.equal(page.status, 200, page.text().slice(-300))
  t.equal((await browser.fetch('/userinfo')).status, 200)
  await browser.post('/auth/logout')
  await until(() => provider.count('revocation') > 0)
  return provider.requests
    .map(({ endpoint }) => endpoint)
    .filter((endpoint) => !['authorize', 'end_session'].includes(endpoint))
}

t.test('S81 every call uses the configured certificate authority', async (t) => {
  const provider = await startTls(t)
  const agent = new Agent({ connect: trusting })
  t.teardown(async () => await agent.close())
  t.same(await everything(t, provider, { dispatcher: agent }), CALLS)
})

t.test('S81 every call uses the proxy: the provider has a name that only the proxy knows', async (t) => {
  const proxy = await startProxy({ authorization: 'Basic dXNlcjpwYXNz', names: ['provider.test'] })
  t.teardown(async () => await proxy.close())
  const hidden = (url: string): string => url.replace('//127.0.0.1:', '//provider.test:')
  const provider = await startTls(t)
  provider.fault({
    on: 'metadata',
    metadata: (document) => {
      for (const name of [
        'token_endpoint', 'jwks_uri', 'userinfo_endpoint', 'revocation_endpoint',
        'pushed_authorization_request_endpoint'
      ]) { document[name] = hidden(document[name] as string) }
    }
  })
  const options: Partial<OidcOptions> = {
    discoveryUrl: hidden(`${provider.issuer}/.well-known/openid-configuration`),
    expectedIssuer: provider.issuer
  }
  const requestTls = { ...trusting, servername: 'localhost' }
  const agent = new ProxyAgent({ uri: proxy.url, token: 'Basic dXNlcjpwYXNz', requestTls })
  const refused = new ProxyAgent({ uri: proxy.url, token: 'Basic eDp5', requestTls })
  t.teardown(async () => await Promise.all([agent.close(), refused.close()]))
  t.same(await everything(t, provider, { ...options, dispatcher: agent }), CALLS)
  t.same([...new Set(proxy.targets)], [new URL(hidden(provider.issuer)).host])
  provider.clearRequests()
  for (const dispatcher of [refused, new Agent({ connect: trusting })]) {
    const app = await buildApp(t, optionsFor(provider, { ...options, dispatcher }))
    t.equal((await app.inject('/auth/login')).statusCode, 503, 'without the proxy, or when it refuses')
  }
  t.equal(provider.requests.length, 0)
})

t.test('S11 S81 every call uses the client certificate, at the mTLS endpoint aliases', async (t) => {
  const registered: Partial<ProviderClient> = {
    token_endpoint_auth_method: 'tls_client_auth',
    tls_client_auth_subject_dn: 'CN=web of fastify-oidc'
  }
  const provider = await startTls(t, {}, registered)
  provider.fault({
    on: 'metadata',
    metadata: (document) => {
      document['mtls_endpoint_aliases'] = Object.fromEntries(
        ['token_endpoint', 'userinfo_endpoint', 'revocation_endpoint', 'pushed_authorization_request_endpoint'].map(
          (name) => [name, `${String(document[name])}?mtls`]
        )
      )
    }
  })
  const agent = new Agent({ connect: { ...trusting, ...ours } })
  const bare = new Agent({ connect: trusting })
  t.teardown(async () => await Promise.all([agent.close(), bare.close()]))
  const { clientSecret: _, ...options } = optionsFor(provider)
  t.same(
    await everything(t, provider, {
      ...options,
      clientSecret: undefined,
      clientAuth: 'tls_client_auth',
      dispatcher: agent
    } as unknown as Partial<OidcOptions>),
    CALLS
  )
  for (const { endpoint, query, body, clientCertificate } of provider.requests.filter(({ endpoint }) =>
    CALLS.includes(endpoint)
  )) {
    t.equal(clientCertificate, 'CN=web of fastify-oidc', endpoint)
    t.equal('mtls' in query, !['metadata', 'jwks'].includes(endpoint), `${endpoint}: the alias`)
    if (['par', 'token', 'revocation'].includes(endpoint)) t.equal(body['client_id'], 'web')
  }
  const without = await buildApp(t, { ...options, clientAuth: 'tls_client_auth', dispatcher: bare })
  t.equal(
    (await client({ app: without, baseUrl: BASE_URL, ca: server.cert }).goto('/me')).status,
    503,
    'K9 the provider insists on it'
  )
})

t.test('K5 S50 an unsafe endpoint alias is refused where the client uses it', async (t) => {
  const cases: Array<[aliases: unknown, status: number]> = [
    ['x', 502],
    [[], 502],
    [null, 302],
    [{ token_endpoint: null }, 302],
    [{ token_endpoint: 'http://provider.example/token' }, 502],
    [{ token_endpoint: 7 }, 502],
    [{ userinfo_endpoint: 'https://user@provider.example/' }, 302]
  ]
  for (const [aliases, status] of cases) {
    const provider = await startProvider()
    t.teardown(async () => await provider.close())
    provider.fault({
      on: 'metadata',
      metadata: (document) => {
        document['mtls_endpoint_aliases'] = aliases
      }
    })
    const { clientSecret: _, ...options } = optionsFor(provider)
    const using = await buildApp(t, { ...options, clientAuth: 'tls_client_auth' })
    t.equal((await using.inject('/auth/login')).statusCode, status, JSON.stringify(aliases))
    const other = await buildApp(t, optionsFor(provider))
    t.equal((await other.inject('/auth/login')).statusCode, 302, 'a client without a certificate does not use it')
  }
})

t.test('S81 every call uses the fetch of the options', async (t) => {
  const provider = await startTls(t)
  const agent = new Agent({ connect: trusting })
  t.teardown(async () => await agent.close())
  const calls: string[] = []
  const fetching: OidcOptions['fetch'] = async (url, init) => {
    t.match(init, { redirect: 'manual', signal: AbortSignal })
    calls.push(new URL(url).pathname)
    return await fetch(url, { ...init, dispatcher: agent } as unknown as RequestInit)
  }
  t.same(await everything(t, provider, { fetch: fetching }), CALLS)
  t.same(calls.length, CALLS.length, 'each call once, and no other way')
})

t.test('S81 each provider has its own dispatcher, and the common one is the default', async (t) => {
  const [one, two] = [await startTls(t), await startTls(t)]
  const ways: string[] = []
  const way = (name: string): OidcOptions['fetch'] => async (url, init) => {
    ways.push(`${name} ${new URL(url).port}`)
    return await fetch(url, { ...init, dispatcher: agent } as unknown as RequestInit)
  }
  const agent = new Agent({ connect: trusting })
  t.teardown(async () => await agent.close())
  const { baseUrl, session } = optionsFor(one)
  const own = (provider: Provider) => ({ issuer: provider.issuer, clientId: 'web', clientSecret: 'secret of web' })
  const app = await buildApp(t, {
    baseUrl,
    session,
    allowInsecureLoopback: true,
    fetch: way('shared') as never,
    providers: { one: { ...own(one), fetch: way('own') as never }, two: own(two) }
  })
  for (const name of ['one', 'two']) {
    t.equal(
      (await client({ app, baseUrl: BASE_URL, ca: server.cert }).goto(`/auth/${name}/login?return_to=/me`)).status,
      200
    )
  }
  t.same([...new Set(ways)], [`own ${new URL(one.url).port}`, `shared ${new URL(two.url).port}`])
})

t.test(
  'S54 an untrusted or wrong certificate means that the provider is unavailable, and sends no secret',
  async (t) => {
    const provider = await startTls(t)
    const stranger = testCertificate('stranger')
    const wrongName = new Agent({ connect: { ...trusting, servername: 'other.example' } })
    const wrongCa = new Agent({ connect: { ca: stranger.cert } })
    t.teardown(async () => await Promise.all([wrongName.close(), wrongCa.close()]))
    for (const dispatcher of [undefined, wrongName, wrongCa]) {
      const app = await buildApp(t, optionsFor(provider, dispatcher === undefined ? {} : { dispatcher }))
      const page = await client({ app, baseUrl: BASE_URL }).goto('/me')
      t.match([page.status, page.text()], [503, /FST_OIDC_PROVIDER_UNAVAILABLE/])
      t.match(await app.oidc.health(), {
        status: 'degraded',
        providers: { default: { status: 'unavailable', code: 'FST_OIDC_PROVIDER_UNAVAILABLE' } }
      })
    }
    t.equal(provider.requests.length, 0)
  }
)

t.test('R2 R5 every call ends in time and follows no redirect', async (t) => {
  const agent = new Agent({ connect: trusting })
  t.teardown(async () => await agent.close())
  // The calls before the faulty one must end in time as well, also where other work shares the cores. Responses that
  // stall or drip are tried in transport-faults.
  const trouble: Array<[Omit<Fault, 'on'>, status: number, timeout: number]> = [
    [{ hang: true }, 503, 15],
    [{ redirect: 'https://127.0.0.1:1/elsewhere' }, 502, 60],
    [{ garbage: 'huge', megabytes: 2 }, 502, 60]
  ]
  const endpoints = ['metadata', 'par', 'token', 'jwks', 'userinfo'] as const
  for (const [fault, status, timeout] of trouble) {
    const started = await inTurn(endpoints, async (on) => {
      const provider = await startTls(t)
      provider.fault({ on, ...fault })
      const app = await buildApp(t, optionsFor(provider, {
        userinfo: true,
        pushedAuthorizationRequests: true,
        dispatcher: agent,
        timeout,
        maxResponseBytes: 100_000
      }))
      return { on, provider, app }
    })
    await Promise.all(started.map(async ({ on, provider, app }) => {
      const page = await client({ app, baseUrl: BASE_URL, ca: server.cert }).goto('/me')
      t.equal(page.status, status, `${on} ${JSON.stringify(fault)}: ${page.text().slice(-200)}`)
      t.match(page.text(), /FST_OIDC_PROVIDER_(?:UNAVAILABLE|RESPONSE)/)
      t.equal(provider.count(on), 1, `${on} ${JSON.stringify(fault)}: one attempt`)
    }))
  }
})

async function inTurn<T, R> (values: readonly T[], work: (value: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  for (const value of values) results.push(await work(value))
  return results
}
