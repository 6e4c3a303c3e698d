import { createHash } from 'node:crypto'
import fc from 'fast-check'
import Fastify from 'fastify'
import t from 'tap'
import oidc from '../../index.ts'
import { client, faults, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor, startApp } from '../support/app.ts'
import {
  CALLBACK, SESSION_COOKIE, anotherApp, assertAnonymous, assertLoggedIn, authorizationParams,
  cookiesSet, loginCookies, loginRoute, untilCallback
} from '../support/protocol.ts'

t.setTimeout(120_000) // where other work shares the cores

const FRESH = ['state', 'nonce', 'code_challenge']

/** The parameters that are the same in every authorization request. */
function fixedParams (params: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(params).filter(([name]) => !FRESH.includes(name)))
}

const EXPECTED = {
  client_id: 'web',
  redirect_uri: CALLBACK,
  response_type: 'code',
  scope: 'openid profile email',
  code_challenge_method: 'S256'
}

t.test('S1 a login is a code request with state, nonce and a S256 challenge', async (t) => {
  const { provider, browser } = await startApp(t)
  const page = await browser.step('/auth/login?return_to=/me')
  const url = new URL(page.location as string)

  t.equal(page.status, 302)
  t.equal(url.origin + url.pathname, `${provider.issuer}/authorize`)
  t.same(fixedParams(authorizationParams(page)), EXPECTED, 'nothing more, nothing less')
  t.equal([...url.searchParams].length, Object.keys(EXPECTED).length + FRESH.length, 'each once')
  t.equal(page.headers.get('cache-control'), 'no-store')
  t.equal(page.headers.get('referrer-policy'), 'no-referrer')
  t.equal(page.headers.get('x-content-type-options'), 'nosniff')
  t.equal(provider.count('authorize'), 0, 'only the browser goes there')
})

t.test('S1 V12 state, nonce and challenge are long and unique', async (t) => {
  const { provider, app } = await startApp(t)
  const seen: Record<string, Set<string>> = { state: new Set(), nonce: new Set(), code_challenge: new Set() }
  for (let i = 0; i < 60; i++) {
    const { headers } = await app.inject('/auth/login')
    const params = authorizationParams({ location: headers.location as string })
    for (const name of FRESH) seen[name]?.add(params[name] as string)
    // The first ten characters of a state are a time; what follows is random
    t.match(params['state'], /^[0-9a-z]{10}[\w-]{22}[\w-]+\.[\w-]{32}$/, '128 bits of state, then the sealed login')
    t.match(params['nonce'], /^[\w-]{22}$/, '128 bits of nonce')
    t.match(params['code_challenge'], /^[\w-]{43}$/, 'SHA-256')
  }
  t.same(FRESH.map((name) => seen[name]?.size), [60, 60, 60])
  t.equal(provider.count('metadata'), 1)
})

t.test('S1 the random parts do not repeat among states of one moment', async (t) => {
  const { app } = await startApp(t)
  await app.inject('/auth/login')
  const pages = await Promise.all(Array.from({ length: 30 }, async () => await app.inject('/auth/login')))
  const states = pages.map(
    ({ headers }) => authorizationParams({ location: headers.location as string })['state'] as string
  )
  t.equal(new Set(states.map((state) => state.slice(9))).size, 30)
})

t.test('S2 the pending login is one sealed cookie that scripts cannot read', async (t) => {
  const { provider, browser } = await startApp(t)
  const page = await browser.step('/auth/login?return_to=/me%3Fsecret%3Dvalue')
  const { state, nonce } = authorizationParams(page)
  const lines = page.headers.getSetCookie()
  t.equal(lines.length, 1)
  const [pair = '', ...attributes] = (lines[0] as string).split('; ')
  const [name = ''] = pair.split('=', 1)
  const value = pair.slice(name.length + 1)

  t.match(name, /^__Host-oidc-login-[0-9a-b]$/)
  t.match(value, new RegExp(`^${state?.slice(0, 32)}[\\w-]{22}$`), 'it belongs to this state')
  t.same(attributes.sort(), ['HttpOnly', 'Max-Age=7200', 'Path=/', 'SameSite=Lax', 'Secure'], 'no Domain')
  t.same(browser.cookies.refused, [], 'the browser takes it')

  await browser.goto(page.location as string)
  const verifier = provider.requests.find(({ endpoint }) => endpoint === 'token')?.body['code_verifier'] as string
  t.match(verifier, /^[\w-]{43}$/, '256 bits')
  t.equal(createHash('sha256').update(verifier).digest('base64url'), authorizationParams(page)['code_challenge'])
  const readable = value + Buffer.from(value, 'base64').toString('latin1') + page.text() + page.location
  t.notOk(readable.includes(verifier), 'the verifier is nowhere to be read')
  t.notOk(Buffer.from(value, 'base64').includes(nonce as string), 'the cookie is encrypted')
  t.notOk(Buffer.from(value, 'base64').includes('secret'))
})

t.test('S2 V28 two equal logins are sealed differently', async (t) => {
  const { browser } = await startApp(t)
  const values: string[] = []
  for (let i = 0; i < 2; i++) {
    const [line = ''] = (await browser.step('/auth/login?return_to=/me')).headers.getSetCookie()
    values.push(line.slice(line.indexOf('=') + 1, line.indexOf(';')))
  }
  t.equal(new Set(values.map((value) => value.slice(0, 24))).size, 2)
})

const spoofed: Record<string, string> = {
  host: 'evil.example',
  forwarded: 'for=1.2.3.4;host=evil.example;proto=http',
  'x-forwarded-host': 'evil.example',
  'x-forwarded-proto': 'http',
  'x-forwarded-port': '8080',
  'x-forwarded-for': '127.0.0.1',
  'x-forwarded-uri': '/evil',
  'x-forwarded-prefix': '/evil',
  'x-original-url': '/evil',
  'x-rewrite-url': '/evil',
  'x-host': 'evil.example',
  x_forwarded_host: 'evil.example'
}

t.test('S3 V5 V21 no header of the request changes an address or a cookie', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  for (const trustProxy of [false, true]) {
    const app = await buildApp(t, optionsFor(provider), { trustProxy })
    for (const headers of [...Object.entries(spoofed).map(([name, value]) => ({ [name]: value })), spoofed]) {
      const what = `trustProxy ${trustProxy}, ${Object.keys(headers).join(' ')}`
      for (const path of ['/auth/login?return_to=/me', '/me']) {
        const browser = client({ app, baseUrl: BASE_URL })
        const page = await browser.step(path, { headers })
        t.same(fixedParams(authorizationParams(page)), EXPECTED, what)
        t.notOk(page.location?.includes('evil'), what)
        t.match(page.headers.getSetCookie()[0], /^__Host-.*; Secure/, what)

        provider.clearRequests()
        const callback = await browser.goto(page.location as string, { until: ({ href }) => href.startsWith(CALLBACK) })
        const done = await browser.step(callback.location as string, { headers })
        t.equal(done.location, `${BASE_URL}/me`, what)
        t.equal(provider.requests.find(({ endpoint }) => endpoint === 'token')?.body['redirect_uri'], CALLBACK, what)
        t.ok(cookiesSet(done).includes(SESSION_COOKIE), what)
      }
      const error = await client({ app, baseUrl: BASE_URL }).step('/auth/callback?state=x', { headers })
      t.equal(error.status, 400)
      t.match(error.text(), `href="${BASE_URL}/auth/login"`)
      t.notMatch(error.text(), 'evil')
    }
  }
})

t.test('S3 R38 the redirect_uri has the path of baseUrl and the prefix of the scope', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  await app.register(
    async (scope) => {
      await scope.register(
        oidc,
        optionsFor(provider, { baseUrl: `${BASE_URL}/shop/`, routes: { prefix: 'sso', callback: 'back/here' } })
      )
    },
    { prefix: '/v1' }
  )
  const { headers, statusCode } = await app.inject('/v1/sso/login')
  t.equal(statusCode, 302)
  t.equal(
    authorizationParams({ location: headers.location as string })['redirect_uri'],
    `${BASE_URL}/shop/v1/sso/back/here`
  )
  t.equal((await app.inject('/v1/sso/back/here?state=x')).statusCode, 400, 'the callback is there')
})

t.test(
  'S4 a provider without PKCE in its metadata gets a challenge, and state and nonce are checked',
  async (t) => {
    const { provider, browser } = await startApp(t)
    provider.fault(faults['metadata-without-pkce'])
    const callback = await untilCallback(browser)
    t.ok(provider.requests.find(({ endpoint }) => endpoint === 'authorize')?.query['code_challenge'])
    const other = new URL(callback)
    other.searchParams.set('state', `${callback.searchParams.get('state')}1`)
    t.equal((await browser.goto(other.href)).status, 400)
    provider.fault({ ...faults['nonce-invalid'], times: 1 })
    t.equal((await browser.goto(callback.href)).status, 403)
    t.equal(provider.count('token'), 1)
    await assertAnonymous(t, browser)
  }
)

t.test('S5 ten tabs log in at once, and each ends at its own page', async (t) => {
  const { provider, browser } = await startApp(t)
  const tabs = Array.from({ length: 10 }, (_, index) => `/me?tab=${index}`)
  const pages = await Promise.all(
    tabs.map(async (tab) => await browser.goto(`/auth/login?return_to=${encodeURIComponent(tab)}`))
  )
  t.same(
    pages.map(({ status, url }) => [status, url]),
    tabs.map((tab) => [200, BASE_URL + tab])
  )
  t.same(
    pages.map((page) => page.json().claims.sub),
    tabs.map(() => 'alice')
  )
  t.equal(provider.count('token'), 10)
  t.equal(provider.count('metadata'), 1)
  t.ok(browser.cookies.bytes() < 8000, 'the cookies stay within their budget')
  await assertLoggedIn(t, browser)
})

t.test('S5 ten tabs begin a login before one of them ends, and end in any order', async (t) => {
  const { provider, browser } = await startApp(t)
  const callbacks = await Promise.all(
    Array.from({ length: 10 }, async (_, index) => await untilCallback(browser, `/me?tab=${index}`))
  )
  t.equal(loginCookies(browser).length, 10)
  const order = [7, 0, 9, 3, 1, 8, 2, 6, 5, 4]
  for (const index of order) {
    const page = await browser.goto((callbacks[index] as URL).href)
    t.same([page.status, page.url], [200, `${BASE_URL}/me?tab=${index}`])
  }
  t.equal(provider.count('token'), 10)
})

t.test('V27 fifty unfinished logins leave a bounded number of cookies, and the newest works', async (t) => {
  const { browser } = await startApp(t)
  const first = await untilCallback(browser)
  for (let i = 0; i < 49; i++) await browser.step('/auth/login?return_to=/me')
  t.ok(loginCookies(browser).length <= 12, `${loginCookies(browser).length} are left`)
  t.ok(browser.cookies.bytes() < 8000, `${browser.cookies.bytes()} bytes`)

  const old = await browser.goto(first.href)
  t.same([old.status, old.url], [200, `${BASE_URL}/me`], 'the oldest, which lost its slot, begins again')
  const page = await browser.goto('/auth/login?return_to=/me')
  t.equal(page.status, 200)
  t.equal(page.json().claims.sub, 'alice')
})

t.test('R13 a pending login stays when other logins of the browser end', async (t) => {
  const { browser } = await startApp(t)
  const waiting = await untilCallback(browser, '/me?tab=first')
  for (let count = 0; count < 13; count++) t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200)
  t.ok(loginCookies(browser).length <= 12, `${loginCookies(browser).length} are left`)
  const page = await browser.goto(waiting.href)
  t.match([page.status, page.url], [200, `${BASE_URL}/me?tab=first`])
})

t.test('V27 the bound holds beside a session, and for long addresses', async (t) => {
  const { provider } = await startApp(t)
  const { browser } = await anotherApp(t, provider)
  await browser.goto('/auth/login')
  const long = encodeURIComponent(`/me?${'x'.repeat(1900)}`)
  for (let i = 0; i < 50; i++) {
    await browser.step(`/auth/login?return_to=${i % 2 === 0 ? '/me' : long}`)
    t.ok(browser.cookies.bytes() < 8000, `${browser.cookies.bytes()} bytes`)
  }
  t.same(browser.cookies.refused, [], 'no cookie is too large for a browser')
  await assertLoggedIn(t, browser)
  const page = await browser.goto(`/auth/login?return_to=${long}`)
  t.equal(page.url, `${BASE_URL}/me?${'x'.repeat(1900)}`)
  t.ok(browser.cookies.bytes() < 8000)
})

t.test('S6 V7 V8 the address of a page adds no parameter to the authorization request', async (t) => {
  const { app } = await startApp(t)
  const params = async (url: string): Promise<Record<string, string>> => {
    const { headers } = await app.inject({ url, headers: { accept: 'text/html' } })
    return authorizationParams({ location: headers.location as string })
  }
  const hostile =
    'scope=admin&audience=evil&redirect_uri=https%3A%2F%2Fevil.example&client_id=evil&response_type=token&response_mode=fragment' +
    '&state=known&nonce=known&code_challenge=known&code_challenge_method=plain&request=x&request_uri=urn%3Ax&resource=x&prompt=none&max_age=0' +
    '&acr_values=0&claims=%7B%7D&iss=https%3A%2F%2Fevil.example&login_hint=bob&target_link_uri=https%3A%2F%2Fevil.example&scopes=x&auth_request_params=x'
  for (const url of [
    `/auth/login?${hostile}`,
    `/auth/login?return_to=/me&${hostile}`,
    `/auth/login?return_to=${encodeURIComponent(`/me?${hostile}`)}`,
    `/me?${hostile}`,
    `/auth/login?return_to=/me?${hostile}`
  ]) {
    const sent = await params(url)
    t.same(fixedParams(sent), EXPECTED, url.slice(0, 40))
    t.notOk(FRESH.some((name) => sent[name] === 'known'))
  }
  await fc.assert(fc.asyncProperty(
    fc.dictionary(fc.constantFrom(...hostile.split('&').map((pair) => pair.split('=', 1)[0] as string)), fc.string()),
    fc.constantFrom('/auth/login', '/me'),
    async (query, path) => {
      t.same(fixedParams(await params(`${path}?${new URLSearchParams(query).toString()}`)), EXPECTED)
    }
  ), { numRuns: 50 })
})

const RESERVED = [
  'client_id', 'redirect_uri', 'response_type', 'response_mode', 'scope', 'state', 'nonce', 'code_challenge',
  'code_challenge_method', 'request', 'request_uri', 'resource'
]

t.test('S6 the application adds parameters, but not those of the plugin', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const { app, browser } = await anotherApp(t, provider, { authorizationParams: { ui_locales: 'de', prompt: 'login' } })
  loginRoute(app, '/custom', { authorizationParams: { prompt: 'select_account', login_hint: 'alice@example.com' } })
  for (const name of RESERVED) loginRoute(app, `/custom/${name}`, { authorizationParams: { [name]: 'evil' } })
  t.same(fixedParams(authorizationParams(await browser.step('/auth/login'))), {
    ...EXPECTED,
    ui_locales: 'de',
    prompt: 'login'
  })
  t.same(fixedParams(authorizationParams(await browser.step('/custom'))), {
    ...EXPECTED,
    ui_locales: 'de',
    prompt: 'select_account',
    login_hint: 'alice@example.com'
  })
  const before = loginCookies(browser).length
  for (const name of RESERVED) {
    const page = await browser.step(`/custom/${name}`)
    t.equal(page.status, 500, name)
    t.equal(page.json().code, 'FST_OIDC_OPTION')
    await t.rejects(
      anotherApp(t, provider, { authorizationParams: { [name]: 'evil' } }),
      { code: 'FST_OIDC_OPTION' },
      name
    )
  }
  t.equal(loginCookies(browser).length, before, 'no login began')
})

const scripts: Record<string, string>[] = [
  { 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty', accept: '*/*' },
  { 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty', accept: 'text/html' },
  { 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image', accept: 'text/html,image/*' },
  { 'sec-fetch-mode': 'same-origin', 'sec-fetch-dest': 'empty', accept: 'text/html' },
  // Beside Sec-Fetch-Mode, X-Requested-With does not count (K1).
  {
    'sec-fetch-mode': 'cors',
    'sec-fetch-dest': 'document',
    accept: 'text/html',
    'x-requested-with': 'com.example.app'
  },
  { 'x-requested-with': 'XMLHttpRequest', accept: 'text/html' }
]
const notNavigations: Record<string, string>[] = [
  ...scripts,
  { accept: 'application/json' },
  { accept: '*/*' },
  {},
  { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'iframe', accept: 'text/html' },
  { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'object', accept: 'text/html' },
  { 'sec-fetch-mode': 'websocket', 'sec-fetch-dest': 'websocket', upgrade: 'websocket', accept: 'text/html' }
]

t.test('S7 a request that is not a navigation gets 401, no redirect and no cookie', async (t) => {
  const { app, provider } = await startApp(t)
  for (const headers of notNavigations) {
    const response = await app.inject({ url: '/me', headers })
    const what = JSON.stringify(headers)
    t.equal(response.statusCode, 401, what)
    t.notOk(response.headers.location, what)
    t.notOk(response.headers['set-cookie'], what)
    t.equal(response.headers['cache-control'], 'no-store')
    if (!/html/.test(response.headers['content-type'] as string)) {
      t.same(
        response.json(),
        {
          statusCode: 401,
          code: 'FST_OIDC_LOGIN_REQUIRED',
          error: 'Unauthorized',
          message: 'You need to log in.',
          login: `${BASE_URL}/auth/login`
        },
        what
      )
    }
  }
  t.equal(provider.requests.length, 0, 'the provider was not asked')
})

t.test('S7 a script cannot begin a login at the login route either', async (t) => {
  const { app, provider } = await startApp(t)
  for (const headers of scripts) {
    const response = await app.inject({ url: '/auth/login?return_to=/me', headers })
    t.equal(response.statusCode, 400)
    t.match(response.body, 'FST_OIDC_NAVIGATION')
    t.notOk(response.headers.location)
    t.notOk(response.headers['set-cookie'])
  }
  t.equal(provider.requests.length, 0)
})

t.test('S8 R16 a prefetch begins no login', async (t) => {
  const { app, provider } = await startApp(t)
  const ahead = [
    { 'sec-purpose': 'prefetch' },
    { 'sec-purpose': 'prefetch;prerender' },
    { 'sec-purpose': 'prefetch;anonymous-client-ip' },
    { purpose: 'prefetch' },
    { 'x-moz': 'prefetch' },
    { 'x-purpose': 'preview' },
    { purpose: 'Preview' }
  ]
  for (const path of ['/auth/login?return_to=/me', '/me']) {
    for (const headers of ahead) {
      const response = await app.inject({
        url: path,
        headers: { accept: 'text/html', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', ...headers }
      })
      const what = `${path} ${JSON.stringify(headers)}`
      t.equal(response.statusCode, 503, what)
      t.match(response.body, 'FST_OIDC_PREFETCH')
      t.equal(response.headers['cache-control'], 'no-store', what)
      t.notOk(response.headers.location, what)
      t.notOk(response.headers['set-cookie'], what)
    }
  }
  t.equal(provider.requests.length, 0)
})

t.test('S9 R15 other methods than GET begin no login', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  for (const exposeHeadRoutes of [true, false]) {
    const app = await buildApp(t, optionsFor(provider), { exposeHeadRoutes })
    for (const method of ['HEAD', 'OPTIONS', 'TRACE', 'PUT', 'POST', 'PATCH', 'DELETE'] as const) {
      const response = await app.inject({
        method: method as 'HEAD',
        url: '/auth/login?return_to=/me',
        headers: { accept: 'text/html' }
      })
      t.equal(response.statusCode, method === 'OPTIONS' ? 404 : 405, method)
      t.equal(response.headers.allow, method === 'OPTIONS' ? undefined : 'GET')
      t.notOk(response.headers['set-cookie'], method)
      t.notOk(response.headers.location, method)
    }
  }
  t.equal(provider.requests.length, 0)
})

t.test('S12 a link on another site begins a plain login, and does not affect a user who is logged in', async (t) => {
  const { browser } = await startApp(t)
  await browser.goto('/auth/login')
  const session = browser.cookies.get(SESSION_COOKIE)
  const page = await browser.step(
    '/auth/login?return_to=https://evil.example/&iss=https://evil.example&login_hint=mallory',
    { from: 'https://evil.example/' }
  )
  t.same(fixedParams(authorizationParams(page)), EXPECTED)
  t.equal(browser.cookies.get(SESSION_COOKIE), session, 'the session is untouched')
  await assertLoggedIn(t, browser)
  const done = await browser.goto(page.location as string, { from: 'https://evil.example/' })
  t.equal(done.url, `${BASE_URL}/`, 'and ends at home')

  const frame = await browser.step('/auth/login', { from: 'https://evil.example/', dest: 'iframe' })
  t.equal(frame.status, 400, 'in a frame no login begins')
  t.match(frame.text(), 'FST_OIDC_NAVIGATION')
  t.same(cookiesSet(frame), [])
})

t.test('V1 V4 whatever return_to is, the login begins, and ends on the application', async (t) => {
  const { app, browser } = await startApp(t)
  const targets = [
    'https://evil.example/',
    '//evil.example',
    '/\\evil.example',
    '\\\\evil.example',
    '/\t/evil.example',
    '/.//evil.example',
    '/..//evil.example',
    '/%2e//evil.example',
    'javascript:alert(1)',
    'data:text/html,x',
    'https://app.example.com@evil.example/',
    'https://app.example.com.evil.example/',
    'https://user@app.example.com/',
    'http://app.example.com/',
    'https://app.example.com:444/',
    'http://[',
    '%',
    '%00',
    '',
    ' ',
    '\r\nLocation: //evil.example',
    'x'.repeat(4000),
    '/me?ä=😀'
  ]
  for (const target of targets) {
    const page = await browser.goto(`/auth/login?return_to=${encodeURIComponent(target)}`)
    t.equal(new URL(page.url).origin, BASE_URL, target.slice(0, 40))
    t.notOk(page.history.some(({ url }) => new URL(url).host.includes('evil.example')), 'and was never elsewhere')
  }
  for (const query of [
    'return_to=%',
    'return_to=http%3A%2F%2F%5B',
    'return_to[]=/me',
    'return_to',
    '&&&',
    '?',
    '=',
    `return_to=${'%41'.repeat(4000)}`
  ]) {
    t.equal((await app.inject(`/auth/login?${query}`)).statusCode, 302, query.slice(0, 40))
  }
  for (const query of [
    'return_to=/a&return_to=/b',
    'return_to=%FF',
    'return_to=%00',
    `return_to=${'a'.repeat(10_000)}`
  ]) {
    const response = await app.inject(`/auth/login?${query}`)
    t.equal(response.statusCode, 400, query.slice(0, 40))
    t.match(response.body, 'FST_OIDC_PARAMETER')
    t.notOk(response.headers['set-cookie'])
  }
})

t.test('V4 R12 no query makes the login route fail', async (t) => {
  const { app } = await startApp(t)
  await app.inject('/auth/login')
  const piece = fc.oneof(
    fc.constantFrom(
      'return_to', '=', '&', '%', '%FF', '%00', '//', '\\', '[]', '%ED%A0%80', '+', '#', '__proto__', ';',
      'evil.example'
    ),
    fc.string({ maxLength: 8 }).map(encodeURIComponent)
  )
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 12 }), async (pieces) => {
      const { statusCode, headers } = await app.inject(`/auth/login?${pieces.join('')}`)
      t.ok(statusCode === 302 || statusCode === 400, String(statusCode))
      if (statusCode === 302) {
        t.same(fixedParams(authorizationParams({ location: headers.location as string })), EXPECTED)
      }
    }),
    { numRuns: 100 }
  )
})

t.test('S12 a frame cannot begin a login', async (t) => {
  const { app, browser } = await startApp(t)
  const page = await browser.goto('/auth/login', { from: 'https://evil.test/', dest: 'iframe' })
  t.equal(page.status, 400)
  t.same(browser.cookies.list(), [])
  t.equal(
    (await app.inject({ url: '/auth/login', headers: { 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate' } }))
      .statusCode,
    302
  )
})

t.test('S29 app.oidc.login refuses an invalid maxAge', async (t) => {
  const { app } = await startApp(t)
  app.get(
    '/in',
    async (request, reply) => await app.oidc.login(request, reply, { maxAge: Number(request.headers['x-age']) })
  )
  await app.ready()
  for (const age of ['-1', 'x', '1.5']) {
    t.match((await app.inject({ url: '/in', headers: { 'x-age': age } })).json(), { code: 'FST_OIDC_OPTION' })
  }
  t.match((await app.inject({ url: '/in', headers: { 'x-age': '60' } })).headers.location, /max_age=60/)
})
