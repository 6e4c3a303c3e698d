import fc from 'fast-check'
import { decodeJwt } from 'jose'
import t from 'tap'
import { client, faults, startClock, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor, startApp } from '../support/app.ts'
import {
  CALLBACK, LOGIN_COOKIE, SESSION_COOKIE, assertLoggedIn, authorizationParams, captureLog, loginRoute,
  untilCallback
} from '../support/protocol.ts'
import { startOidcProvider } from '../support/oidc-provider.ts'
import type { Test } from 'tap'
import type { Provider, ProviderRequest, TestBrowser } from '../../lib/testing/index.ts'
import type { LoginOptions, OidcOptions } from '../../index.ts'
import type { TestApp } from '../support/app.ts'

const ALL = ['login_hint', 'ui_locales', 'prompt', 'max_age', 'acr_values', 'claims', 'audience', 'resource']

t.test('S6 the options of app.oidc.login become the parameters of the specification', async (t) => {
  const { app, browser } = await startApp(t)
  loginRoute(app, '/start', {
    prompt: 'login consent',
    loginHint: 'me@example.com',
    uiLocales: 'de en',
    claims: { id_token: { email: { essential: true } } },
    audience: 'https://api.example.com',
    resource: ['https://a.example.com', 'https://b.example.com/x?y'],
    maxAge: 60,
    acrValues: ['high', 'higher'],
    authorizationParams: { display: 'popup' }
  })
  const { location } = await browser.step('/start')
  t.match(authorizationParams({ location: location as string }), {
    prompt: 'login consent',
    login_hint: 'me@example.com',
    ui_locales: 'de en',
    claims: '{"id_token":{"email":{"essential":true}}}',
    audience: 'https://api.example.com',
    max_age: '60',
    acr_values: 'high higher',
    display: 'popup',
    redirect_uri: CALLBACK
  })
  t.same(new URL(location as string).searchParams.getAll('resource'), [
    'https://a.example.com',
    'https://b.example.com/x?y'
  ])
  const wrong: object[] = [
    { promt: 'none' },
    { prompt: 7 },
    { prompt: '' },
    { claims: 'x' },
    { claims: [] },
    { resource: '/api' },
    { resource: 'https://a.example.com#x' },
    { maxAge: -1 },
    { acrValues: 'high' },
    { authorizationParams: { state: 'x' } },
    { authorizationParams: { resource: 'x' } },
    { authorizationParams: { max_age: 'x' } },
    { authorizationParams: { max_age: '99999999999' } }
  ]
  const strict = await startApp(t)
  for (const [index, options] of wrong.entries()) loginRoute(strict.app, `/wrong${index}`, options as LoginOptions)
  for (const [index, options] of wrong.entries()) {
    t.match(
      (await strict.app.inject(`/wrong${index}`)).json(),
      { statusCode: 500, code: 'FST_OIDC_OPTION' },
      JSON.stringify(options)
    )
  }
})

t.test('the resources of a login are asked for at the token endpoint too, and with every refresh', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const { issuer, register, close } = await startOidcProvider({ autoLogin: 'alice' })
  t.teardown(close)
  await register({
    client_id: 'web',
    client_secret: 'secret of web',
    redirect_uris: [CALLBACK],
    grant_types: ['authorization_code', 'refresh_token']
  })
  const app = await buildApp(t, {
    issuer,
    clientId: 'web',
    clientSecret: 'secret of web',
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY, idleTimeout: 28_800 },
    offlineAccess: true,
    resource: 'https://usual.example.com',
    scope: 'openid read'
  })
  loginRoute(app, '/start', { resource: 'https://api.example.com/v1' })
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => ({
    token: await app.oidc.accessToken(request)
  }))
  for (const [path, audience] of [
    ['/start', 'https://api.example.com/v1'],
    ['/auth/login', 'https://usual.example.com']
  ] as const) {
    const browser = client({ app, baseUrl: BASE_URL })
    await browser.goto(path)
    const tokens: string[] = []
    for (let visits = 0; visits < 3; visits++) {
      tokens.push(((await browser.fetch('/token')).json() as { token: string }).token)
      clock.advance(3590)
    }
    t.same(tokens.map((token) => decodeJwt(token).aud), [audience, audience, audience])
    t.equal(new Set(tokens).size, 3, 'refreshed twice')
  }
})

t.test('S6 the login route passes on the allowed query parameters only', async (t) => {
  const { app, browser } = await startApp(t, { loginParams: ALL })
  const query = new URLSearchParams({
    login_hint: 'me',
    ui_locales: 'de',
    prompt: 'login',
    max_age: '60',
    acr_values: 'high',
    claims: '{"userinfo":{}}',
    audience: 'api',
    resource: 'https://a.example.com',
    display: 'popup',
    return_to: '/me'
  })
  const params = authorizationParams(await browser.step(`/auth/login?${query.toString()}`))
  t.match(params, {
    login_hint: 'me',
    ui_locales: 'de',
    prompt: 'login',
    max_age: '60',
    acr_values: 'high',
    claims: '{"userinfo":{}}',
    audience: 'api',
    resource: 'https://a.example.com'
  })
  t.notOk('display' in params || 'return_to' in params)
  const bad = [
    'max_age=x', 'max_age=-1', 'max_age=1e3', 'max_age=99999999999', 'claims=x', 'claims=[]', 'claims=7',
    'resource=api', 'resource=https://a.example.com/%23x', 'prompt=a&prompt=b', 'login_hint=%00'
  ]
  for (const query of bad) {
    const response = await app.inject(`/auth/login?${query}`)
    t.match([response.statusCode, response.json().code], [400, 'FST_OIDC_PARAMETER'], query)
    t.notOk(response.headers['set-cookie'])
  }
  const none = await startApp(t)
  t.same(Object.keys(authorizationParams(await none.browser.step(`/auth/login?${query.toString()}`))).sort(), [
    'client_id', 'code_challenge', 'code_challenge_method', 'nonce', 'redirect_uri', 'response_type', 'scope',
    'state'
  ])
})

t.test('the max_age of the query is checked in the ID token', async (t) => {
  const { provider, browser } = await startApp(t, { loginParams: ['max_age'] })
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, auth_time: Math.floor(Date.now() / 1000) - 100 }) })
  t.match((await browser.goto('/auth/login?max_age=60&return_to=/me')).text(), 'FST_OIDC_ID_TOKEN')
  t.equal((await browser.goto('/auth/login?max_age=80&return_to=/me')).status, 200, 'within the tolerance')
})

t.test('S6 no query changes a parameter that the plugin sets', async (t) => {
  const { app, provider } = await startApp(t, { loginParams: ALL })
  const own = [
    'client_id', 'redirect_uri', 'response_type', 'response_mode', 'scope', 'state', 'nonce', 'code_challenge',
    'code_challenge_method', 'request', 'request_uri'
  ]
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.tuple(
          fc.constantFrom(...own, ...ALL, 'return_to'),
          fc.oneof(fc.string(), fc.constantFrom('evil', 'https://evil.example', 'none', '{}', '0'))
        ),
        { maxLength: 6 }
      ),
      async (pairs) => {
        const { statusCode, headers } = await app.inject(`/auth/login?${new URLSearchParams(pairs).toString()}`)
        if (statusCode !== 302) return statusCode === 400
        const url = new URL(headers.location as string)
        const params = Object.fromEntries(url.searchParams)
        const once = own.every((name) => url.searchParams.getAll(name).length <= 1)
        return (
          url.origin === provider.url &&
          once &&
          params['client_id'] === 'web' &&
          params['redirect_uri'] === CALLBACK &&
          params['response_type'] === 'code' &&
          params['scope'] === 'openid profile email' &&
          params['code_challenge_method'] === 'S256' &&
          /^[0-9a-z]{10}[\w-]{22}[\w-]+\.[\w-]{32}$/.test(params['state'] as string) &&
          /^[\w-]{22}$/.test(params['nonce'] as string) &&
          !('request' in params) &&
          !('request_uri' in params) &&
          !('response_mode' in params)
        )
      }
    ),
    { numRuns: 400 }
  )
})

t.test('C38 S12 S48 a login that a third party initiates', async (t) => {
  const { app, provider, browser } = await startApp(t, { routes: { initiateLogin: 'initiate-login' } })
  const iss = provider.issuer
  const from = 'https://portal.example/'
  const page = await browser.goto(
    `/auth/initiate-login?${new URLSearchParams({ iss, login_hint: 'alice', target_link_uri: `${BASE_URL}/me?x`, prompt: 'none' }).toString()}`,
    { from }
  )
  t.match([page.status, page.url], [200, `${BASE_URL}/me?x`])
  const { query } = provider.requests.find(({ endpoint }) => endpoint === 'authorize') as ProviderRequest
  t.match(query, { login_hint: 'alice', redirect_uri: CALLBACK })
  t.notOk('prompt' in query || 'iss' in query)
  t.equal(
    (await client({ app, baseUrl: BASE_URL }).post('/auth/initiate-login', { iss, target_link_uri: '/me' }, { from }))
      .url,
    `${BASE_URL}/me`,
    'by a form as well'
  )
  provider.clearRequests()
  for (const wrong of [undefined, '', `${iss}/`, iss.toUpperCase(), 'https://evil.example', `${iss}#`]) {
    const response = await app.inject(
      `/auth/initiate-login?${new URLSearchParams({ ...(wrong !== undefined && { iss: wrong }), login_hint: 'x' }).toString()}`
    )
    t.match([response.statusCode, response.json().code], [400, 'FST_OIDC_RESPONSE_ISSUER'], String(wrong))
    t.notOk(response.headers['set-cookie'])
  }
  for (const evil of [
    'https://evil.example/', '//evil.example', '/\\evil.example', '/.//evil.example', 'javascript:alert(1)',
    'https://app.example.com.evil.example/'
  ]) {
    const after = await client({ app, baseUrl: BASE_URL }).goto(
      `/auth/initiate-login?${new URLSearchParams({ iss, target_link_uri: evil }).toString()}`,
      { from }
    )
    t.equal(after.url, `${BASE_URL}/`, evil)
  }
  for (const headers of [
    { 'sec-fetch-mode': 'cors' },
    { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'iframe' },
    { 'x-requested-with': 'XMLHttpRequest' }
  ]) {
    t.equal((await app.inject({ url: `/auth/initiate-login?iss=${encodeURIComponent(iss)}`, headers })).statusCode, 400)
  }
  t.equal(
    (
      await app.inject({
        url: `/auth/initiate-login?iss=${encodeURIComponent(iss)}`,
        headers: { 'sec-purpose': 'prefetch' }
      })
    ).statusCode,
    503
  )
  const off = await startApp(t)
  t.match((await off.app.inject(`/auth/initiate-login?iss=${encodeURIComponent(iss)}`)).json().message, 'not found')
  const several = await buildApp(t, {
    baseUrl: BASE_URL,
    session: { key: SESSION_KEY },
    allowInsecureLoopback: true,
    routes: { initiateLogin: 'begin' },
    providers: { one: { issuer: iss, clientId: 'web' }, two: { issuer: off.provider.issuer, clientId: 'web' } }
  })
  t.equal((await several.inject(`/auth/one/begin?iss=${encodeURIComponent(iss)}`)).statusCode, 302)
  t.equal((await several.inject(`/auth/two/begin?iss=${encodeURIComponent(iss)}`)).statusCode, 400)
})

/** An application with a page that tries a silent login. */
async function startSilent (
  t: Test,
  options: Partial<OidcOptions> = {}
): Promise<TestApp & { clock: ReturnType<typeof startClock>; lines: () => string }> {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const { lines, server } = captureLog()
  const world = await startApp(t, { session: { key: SESSION_KEY, idleTimeout: 28_800 }, ...options }, {}, server)
  world.app.get('/page', { preHandler: world.app.oidc.optional({ silent: true }) }, async ({ oidcClaims }) => ({
    sub: oidcClaims?.sub ?? 'nobody'
  }))
  return { ...world, clock, lines }
}

/** The provider answers with this error. */
function refuseWith (provider: Provider, error: string): void {
  provider.clearFaults()
  provider.fault({
    on: 'authorize',
    authorizationResponse: (params) => {
      params.delete('code')
      params.set('error', error)
    }
  })
}

/** A browser with a session at the provider, and none at the application. */
async function logInElsewhere (browser: TestBrowser): Promise<void> {
  await browser.goto('/auth/login')
  browser.cookies.delete(SESSION_COOKIE)
}

t.test(
  'silent: a user without a session at the provider comes back anonymous, and the next attempt waits',
  async (t) => {
    const { provider, browser, clock } = await startSilent(t)
    for (const error of ['login_required', 'interaction_required', 'consent_required', 'account_selection_required']) {
      refuseWith(provider, error)
      provider.clearRequests()
      for (let loads = 0; loads < 10; loads++) {
        const page = await browser.goto('/page?x=1')
        t.match([page.status, page.url, page.json()], [200, `${BASE_URL}/page?x=1`, { sub: 'nobody' }], error)
      }
      t.same(
        provider.requests.filter(({ endpoint }) => endpoint === 'authorize').map(({ query }) => query['prompt']),
        ['none'],
        `${error}: asked once for ten pages`
      )
      clock.advance(601)
    }
    t.equal(provider.count('token'), 0)
    const first = await browser.goto('/page', { until: ({ href }) => href.startsWith(CALLBACK) })
    for (let times = 0; times < 3; times++) {
      t.equal(
        (await browser.goto(first.location as string)).url,
        `${BASE_URL}/page`,
        'its callback, called again, begins no login that asks'
      )
    }
  }
)

t.test('K14 a silent login that the provider refuses with any error opens the page, and the log says why', async (t) => {
  const { provider, browser, clock, lines } = await startSilent(t)
  for (const error of ['invalid_request', 'access_denied', 'server_error', 'unheard_of']) {
    refuseWith(provider, error)
    provider.clearRequests()
    for (let loads = 0; loads < 3; loads++) {
      const page = await browser.goto('/page')
      t.match([page.status, page.json()], [200, { sub: 'nobody' }], error)
    }
    t.equal(provider.count('authorize'), 1, `${error}: asked once`)
    t.match(lines(), new RegExp(`"level":40.*"detail":"error ${error}.*the provider refused a silent login`))
    clock.advance(601)
  }
  t.equal(provider.count('token'), 0)
})

t.test('silent: a user with a session at the provider is logged in without a click, but not after a logout', async (t) => {
  const { app, provider, browser, clock } = await startSilent(t)
  app.get('/leave', async (request, reply) => await app.oidc.logout(request, reply, { federated: false }))
  await logInElsewhere(browser)
  provider.clearRequests()
  t.same((await browser.goto('/page')).json(), { sub: 'alice' })
  t.equal(provider.count('authorize'), 1)
  t.same((await browser.goto('/page')).json(), { sub: 'alice' })
  t.equal(provider.count('authorize'), 1, 'a user with a session is not sent to the provider')
  clock.advance(601)
  await browser.goto('/leave')
  t.same((await browser.goto('/page')).json(), { sub: 'nobody' })
  clock.advance(601)
  t.same((await browser.goto('/page')).json(), { sub: 'alice' })
  for (const options of [
    { method: 'POST' as const },
    { headers: { accept: '*/*' } },
    { headers: { 'sec-fetch-mode': 'cors' } },
    { headers: { accept: 'text/html', 'sec-purpose': 'prefetch' } }
  ]) {
    t.not((await app.inject({ url: '/page', ...options })).statusCode, 302, JSON.stringify(options))
  }
  t.throws(() => app.oidc.required({ silent: true } as object), { code: 'FST_OIDC_OPTION' })
  t.throws(() => app.oidc.optional({ silent: 'yes' as never }), { code: 'FST_OIDC_OPTION' })
})

t.test('silent: the page opens without the provider, and the log has the reason', async (t) => {
  const { app, provider, browser, lines, clock } = await startSilent(t)
  const clear = provider.fault({ on: 'metadata', status: 500 })
  const page = await browser.goto('/page')
  t.match([page.status, page.json()], [200, { sub: 'nobody' }])
  const entry = lines().split('\n').find((line) => line.includes('the silent login could not start')) as string
  const detail = `metadata ${provider.url}: status 500`
  t.match(JSON.parse(entry), { level: 40, code: 'FST_OIDC_PROVIDER_UNAVAILABLE', detail })
  clear()
  clock.advance(601)
  refuseWith(provider, 'login_required')
  provider.fault(faults['remove-authorization-response-iss'])
  t.match((await browser.goto('/page')).text(), 'FST_OIDC_RESPONSE_ISSUER', 'an error of another issuer')
  provider.clearFaults()
  const forged = await app.inject({
    url: `/auth/callback?error=login_required&state=${'x'.repeat(32)}&iss=${encodeURIComponent(provider.issuer)}`,
    headers: { accept: 'text/html' }
  })
  t.match([forged.statusCode, forged.headers.location], [400, undefined])
  const first = await app.inject({ url: '/page', headers: { accept: 'text/html' } })
  const callback = new URL(
    (await browser.goto(first.headers.location as string, { until: ({ href }) => href.startsWith(CALLBACK) }))
      .location as string
  )
  t.equal(
    (await app.inject({ url: callback.pathname + callback.search, headers: { accept: 'text/html' } })).statusCode,
    400,
    'a browser that keeps no cookies does not turn in circles'
  )
})

t.test('silent: with several providers there is no attempt unless the route names one', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const { baseUrl, session, allowInsecureLoopback, ...one } = optionsFor(provider)
  const app = await buildApp(t, { baseUrl, session, allowInsecureLoopback: true, providers: { one, two: one } })
  app.get('/any', { preHandler: app.oidc.optional({ silent: true }) }, async ({ oidcClaims }) => ({
    sub: oidcClaims?.sub ?? 'nobody'
  }))
  app.get('/one', { preHandler: app.oidc.optional({ silent: true, provider: 'one' }) }, async ({ oidcClaims }) => ({
    sub: oidcClaims?.sub ?? 'nobody'
  }))
  for (const [path, sub] of [
    ['/any', 'nobody'],
    ['/one', 'alice']
  ] as const) {
    const browser = client({ app, baseUrl: BASE_URL })
    await browser.goto('/auth/one/login')
    browser.cookies.delete(SESSION_COOKIE)
    t.same((await browser.goto(path)).json(), { sub })
  }
})

t.test('prompt=none comes back without an error page, from any kind of login', async (t) => {
  const { app, provider, browser } = await startApp(t, { loginParams: ['prompt'] })
  loginRoute(app, '/start', { prompt: 'none', returnTo: '/maybe' })
  refuseWith(provider, 'login_required')
  for (const path of ['/start', '/auth/login?prompt=none&return_to=/maybe']) {
    const page = await browser.goto(path)
    t.match([page.status, page.url, page.json()], [200, `${BASE_URL}/maybe`, { claims: null }], path)
  }
  t.match((await browser.goto('/auth/login')).text(), 'FST_OIDC_PROVIDER_REFUSED', 'a login that may ask does not')
  provider.clearFaults()
  const person = await logIn({ app, provider }, 'alice')
  refuseWith(provider, 'login_required')
  await person.goto('/start')
  await assertLoggedIn(t, person)
})

t.test('S10 pushed authorization requests: only a reference goes through the browser', async (t) => {
  const { issuer, register, close } = await startOidcProvider({
    autoLogin: 'alice',
    configuration: { features: { pushedAuthorizationRequests: { enabled: true } } }
  })
  t.teardown(close)
  await register({ client_id: 'web', client_secret: 'secret of web', redirect_uris: [CALLBACK] })
  const app = await buildApp(t, {
    issuer,
    clientId: 'web',
    clientSecret: 'secret of web',
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    pushedAuthorizationRequests: true
  })
  const browser = client({ app, baseUrl: BASE_URL })
  const params = authorizationParams(await browser.step('/auth/login'))
  t.same(Object.keys(params).sort(), ['client_id', 'request_uri'])
  await browser.goto('/me')
  await assertLoggedIn(t, browser)
})

t.test('S10 the pushed request has all parameters and the client authentication, also when the metadata requires it', async (t) => {
  const { provider, browser } = await startApp(
    t,
    { resource: ['https://a.example.com', 'https://b.example.com'] },
    { requirePar: true }
  )
  t.equal((await browser.goto('/me')).status, 200)
  const [pushed, exchange] = ['par', 'token'].map((name) => provider.requests.find(({ endpoint }) => endpoint === name))
  t.match(pushed?.headers.authorization, /^Basic /)
  t.match(pushed?.body, {
    response_type: 'code',
    redirect_uri: CALLBACK,
    scope: 'openid profile email',
    code_challenge_method: 'S256',
    client_id: 'web'
  })
  t.match(pushed?.rawBody, /resource=https%3A%2F%2Fa\.example\.com&resource=https%3A%2F%2Fb\.example\.com/)
  t.equal(exchange?.body['redirect_uri'], pushed?.body['redirect_uri'])
})

t.test('S10 R3 a failed push is an error, and the parameters do not go through the browser instead', async (t) => {
  const { app, provider, browser } = await startApp(t, { pushedAuthorizationRequests: true, timeout: 5 })
  const cases: Array<[Parameters<typeof provider.fault>[0], number]> = [
    [
      { on: 'par', status: 400, headers: { 'content-type': 'application/json' }, body: '{"error":"invalid_request"}' },
      502
    ],
    [{ on: 'par', status: 500 }, 503],
    [{ on: 'par', status: 429 }, 503],
    [{ on: 'par', garbage: 'html' }, 502],
    [{ on: 'par', garbage: 'empty' }, 502],
    [
      {
        on: 'par',
        status: 201,
        headers: { 'content-type': 'application/json' },
        body: '{"request_uri":7,"expires_in":60}'
      },
      502
    ],
    [{ on: 'par', hang: true }, 503],
    [{ on: 'par', redirect: 'https://evil.example/' }, 502],
    [{ on: 'par', status: 401 }, 503] // K12: the client is not accepted
  ]
  for (const [fault, status] of cases) {
    const clear = provider.fault(fault)
    for (const path of ['/me', '/auth/login?return_to=/me']) {
      const page = await browser.step(path)
      t.match([page.status, page.location], [status, undefined], JSON.stringify(fault))
      t.match(page.text(), /FST_OIDC_(?:PROVIDER_UNAVAILABLE|PROVIDER_RESPONSE|CLIENT_AUTHENTICATION)/)
    }
    clear()
  }
  t.same(
    browser.cookies.list().filter(({ name }) => name.startsWith(LOGIN_COOKIE)),
    [],
    'no login waits for what was never asked'
  )
  t.equal((await browser.goto('/me')).status, 200)
  provider.fault({
    on: 'metadata',
    metadata: (document) => {
      delete document['pushed_authorization_request_endpoint']
    }
  })
  const without = await buildApp(t, optionsFor(provider, { pushedAuthorizationRequests: true }))
  t.equal((await without.inject('/auth/login')).statusCode, 502)
  t.ok(app.oidc)
})

t.test('S4 a provider that does not announce PKCE gets a challenge, and state and nonce are checked', async (t) => {
  const { app, provider } = await startApp(t)
  provider.fault({ on: 'metadata', metadata: (document) => { delete document['code_challenge_methods_supported'] } })
  const browser = client({ app, baseUrl: BASE_URL })
  t.match(authorizationParams(await browser.step('/auth/login')), {
    code_challenge_method: 'S256',
    state: /./,
    nonce: /./
  })
  const callback = await untilCallback(browser)
  callback.searchParams.set('state', 'x'.repeat(32))
  t.equal((await browser.goto(callback.href)).status, 400)
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, nonce: 'other' }) })
  t.match((await browser.goto('/me')).text(), 'FST_OIDC_ID_TOKEN')
  t.notOk(browser.cookies.get(SESSION_COOKIE))
})
