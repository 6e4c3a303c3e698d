import t from 'tap'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor, startApp, stopClock } from '../support/app.ts'
import { NAVIGATION } from '../support/navigation.ts'
import { SESSION_COOKIE, captureLog } from '../support/protocol.ts'
import { twoClocks } from '../support/two-clocks.ts'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'
import type { Fault, Page, Provider, TestBrowser } from '../../lib/testing/index.ts'

t.setTimeout(120_000) // where other work shares the cores

/** Other work may keep the provider waiting: none of these tests is about that. */
const PATIENT = { timeout: 60 }
const DONE = `${SESSION_COOKIE}-done`

/** The token response has these members instead. */
function tokenResponse (change: Record<string, unknown>): Fault {
  return { on: 'token', tokenResponse: (response) => { Object.assign(response, change) } }
}

function assertLost (t: Test, page: Page, log: string, reason: RegExp): void {
  t.match([page.status, page.text()], [400, 'FST_OIDC_LOGIN_LOST'])
  t.match(page.headers.get('content-type'), 'text/html')
  t.match(page.text(), `href="${BASE_URL}/auth/login?return_to=`, 'the page offers another login')
  const entry = log.split('\n').find((line) => line.includes('FST_OIDC_LOGIN_LOST')) ?? ''
  t.match(JSON.parse(entry), { level: 40, detail: reason })
}

t.test('K1 a browser that drops the session cookie gets an error after one login, and the log says why', async (t) => {
  const { lines, server } = captureLog()
  const { provider, browser } = await startApp(t, PATIENT, {}, server)
  const dropping = async (path: string): Promise<Page> => {
    let page = await browser.step(path)
    for (let hops = 0; page.location !== undefined && hops < 20; hops++) {
      browser.cookies.delete(SESSION_COOKIE)
      page = await browser.step(page.location)
    }
    return page
  }
  assertLost(t, await dropping('/me'), lines(), /the session cookie did not come back/)
  t.equal(provider.count('authorize'), 1)
  t.notOk(browser.cookies.get(DONE), 'the next login is tried again')
  assertLost(t, await dropping('/me'), lines(), /did not come back/)
  t.equal(provider.count('authorize'), 2)

  const page = await browser.goto('/me')
  t.equal(page.status, 200, 'as soon as the browser keeps the cookie, it works')
  t.notOk(browser.cookies.get(DONE), 'nothing is left')
})

t.test('K1 a browser without cookies gets an error that says so', async (t) => {
  const { lines, server } = captureLog()
  const { app, provider } = await startApp(t, PATIENT, {}, server)
  app.get('/page', { preHandler: app.oidc.optional({ silent: true }) }, async () => 'public')
  for (const [path, fault] of [
    ['/me', []],
    ['/page', []],
    ['/page', { on: 'authorize', authorizationResponse: (params) => { params.set('error', 'login_required') } }]
  ] as Array<[string, Fault | Fault[]]>) {
    const clear = provider.fault(...[fault].flat())
    const browser = client({ app, baseUrl: BASE_URL })
    let page = await browser.step(path)
    for (let hops = 0; page.location !== undefined && hops < 20; hops++) {
      browser.cookies.clear()
      page = await browser.step(page.location)
    }
    clear()
    t.equal(page.status, 400, path)
    t.match(page.text(), /FST_OIDC_STATE/)
    t.match(page.text(), 'your browser sent no cookies')
  }
  t.equal(provider.count('authorize'), 3)
  t.match(lines(), 'no cookie of the login came')
  t.match(lines(), 'your browser sent no cookies', 'the log says so, too')
  t.notMatch(lines(), '"level":50')
})

t.test('K1 a callback of another browser that has cookies does not speak of cookies', async (t) => {
  const { app } = await startApp(t)
  const headers = { ...NAVIGATION, cookie: 'theme=dark' }
  const { statusCode, body } = await app.inject({ url: '/auth/callback?state=x&code=y', headers })
  t.equal(statusCode, 400)
  t.notMatch(body, 'sent no cookies')
})

t.test('K1 required({ refresh }) with a token that has expired already is an error after one login', async (t) => {
  const { lines, server } = captureLog()
  const { app, provider, browser } = await startApp(t, PATIENT, {}, server)
  app.get('/api', { preHandler: app.oidc.required({ refresh: true }) }, async () => 'fresh')
  provider.fault(tokenResponse({ expires_in: 0, refresh_token: undefined }))
  assertLost(t, await browser.goto('/api'), lines(), /cannot be used any more, and there is no refresh token/)
  t.equal(provider.count('authorize'), 1)
  t.equal((await browser.goto('/me')).status, 200, 'other pages open')

  provider.clearFaults()
  t.equal((await browser.goto('/api')).text(), 'fresh', 'and this one, as soon as the token lasts')
})

t.test('K1 a refresh that the provider refuses right after each login is an error after one login', async (t) => {
  const { lines, server } = captureLog()
  const { app, provider, browser } = await startApp(t, { ...PATIENT, offlineAccess: true }, {}, server)
  app.get('/api', { preHandler: app.oidc.required({ refresh: true }) }, async () => 'fresh')
  provider.fault(tokenResponse({ expires_in: 0 }), {
    on: 'token',
    when: ({ body }) => body['grant_type'] === 'refresh_token',
    status: 400,
    headers: { 'content-type': 'application/json' },
    body: '{"error":"invalid_grant"}'
  })
  assertLost(t, await browser.goto('/api'), lines(), /FST_OIDC_LOGIN_REQUIRED right after a login: .*invalid_grant/)
  t.equal(provider.count('authorize'), 1)
})

/**
 * A browser in front of two processes of one application, which share nothing but their options. `pathsOfSecond` go to
 * the second one, whose clock is ahead by `difference` seconds. The browser has the clock of the first one.
 */
async function startTwo (
  t: Test,
  difference: number,
  pathsOfSecond: RegExp,
  options: Partial<OidcOptions> = {}
): Promise<{ provider: Provider, browser: TestBrowser, lines: () => string }> {
  const clock = stopClock(t)
  const { lines, server } = captureLog()
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const build = async (): Promise<FastifyInstance> => await buildApp(t, optionsFor(provider, options), server)
  const app = twoClocks([await build(), await build()], pathsOfSecond, clock, difference)
  return { provider, lines, browser: client({ app, baseUrl: BASE_URL }) }
}

const clocks: Array<[what: string, difference: number, options: Partial<OidcOptions>, reason: RegExp]> = [
  ['behind', -120, {}, /the session is from the future, by 120 s: the clocks of two processes differ/],
  ['ahead of the idle time', 400, { session: { key: SESSION_KEY, idleTimeout: 300 } }, /it is 400 s old: the clocks/],
  ['ahead by two hours', 7200, {}, /it is 7200 s old: the clocks/]
]

for (const [what, difference, options, reason] of clocks) {
  t.test(`K1 the clock of the process of a page is ${what}: an error after one login`, async (t) => {
    const { provider, browser, lines } = await startTwo(t, difference, /^\/me/, options)
    const page = await browser.goto('/me')
    assertLost(t, page, lines(), reason)
    t.ok(provider.count('authorize') <= 2, `${provider.count('authorize')} logins`)
    t.equal(provider.count('token'), 1)
  })
}

t.test('K1 clocks that differ by less than a minute do no harm', async (t) => {
  for (const difference of [-50, 50]) {
    const { provider, browser } = await startTwo(t, difference, /^\/me/)
    t.equal((await browser.goto('/me')).status, 200, String(difference))
    t.ok(provider.count('authorize') <= 2)
  }
})

t.test('K1 a process with another key cannot read the session: an error after one login', async (t) => {
  const { lines, server } = captureLog()
  const { browser } = await startApp(t, PATIENT, {}, server)
  const page = await browser.goto('/me', { until: ({ pathname }) => pathname === '/me' })
  browser.cookies.set(SESSION_COOKIE, `${browser.cookies.get(SESSION_COOKIE)?.slice(0, -1)}!`)
  assertLost(t, await browser.goto(page.location as string), lines(), /no key opens the session cookie/)
})

t.test('K1 two guards that no session can meet are an error, not a loop', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const { lines, server } = captureLog()
  const { baseUrl, session, allowInsecureLoopback, ...one } = optionsFor(provider)
  const app = await buildApp(t, { baseUrl, session, allowInsecureLoopback: true, providers: { one, two: one } }, server)
  const { required } = app.oidc
  app.get('/both', { preHandler: [required({ provider: 'one' }), required({ provider: 'two' })] }, async () => 'both')
  const page = await client({ app, baseUrl: BASE_URL }).goto('/both')
  assertLost(t, page, lines(), /a session of the provider one does not count here/)
  t.equal(provider.count('authorize'), 3, 'it ends when a guard would begin its second login')
})

t.test('K1 several guards of one page may each begin a login', async (t) => {
  const { app, provider, browser } = await startApp(t)
  const clock = stopClock(t)
  const { required } = app.oidc
  app.get('/both', { preHandler: [required(), required({ maxAge: 10 })] }, async () => 'both')
  await browser.goto('/me')
  browser.cookies.delete(SESSION_COOKIE)
  clock.advance(100)
  t.equal((await browser.goto('/both')).text(), 'both')
  const asked = provider.requests.filter(({ endpoint }) => endpoint === 'authorize').map(({ query }) => query['max_age'])
  t.same(asked, [undefined, undefined, '10'])
  t.notOk(browser.cookies.get(DONE))
})

t.test('K1 a guard begins the same login again when it is due', async (t) => {
  const clock = stopClock(t)
  const { app, provider, browser } = await startApp(t)
  app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, async () => 'admin')
  app.get('/own', { preHandler: app.oidc.optional() }, async () => 'own')
  t.equal((await browser.goto('/me')).status, 200)
  clock.advance(3601)
  t.equal((await browser.goto('/me')).status, 200, 'after the idle time')

  t.equal((await browser.goto('/admin')).status, 403)
  await browser.post('/auth/logout')
  t.equal(browser.cookies.header('/'), '', 'a logout leaves nothing')
  t.equal((await browser.goto('/admin')).status, 403, 'after a logout and without the role')
  browser.cookies.delete(SESSION_COOKIE)
  t.equal((await browser.goto('/admin')).status, 403, 'a refusal is an answer too')

  provider.options.approve = () => ({ error: 'access_denied' })
  provider.forget()
  browser.cookies.clear()
  for (let attempts = 0; attempts < 3; attempts++) {
    t.match((await browser.goto('/me')).text(), 'FST_OIDC_PROVIDER_REFUSED', 'a login that failed counts for nothing')
  }
  provider.options.approve = () => 'alice'
  const callback = await browser.goto('/me', { until: ({ pathname }) => pathname === '/me' })
  t.equal(callback.location, `${BASE_URL}/me`)
  t.ok(browser.cookies.get(DONE), 'the login is remembered until its page')
  t.equal((await browser.goto('/own')).text(), 'own')
  t.notOk(browser.cookies.get(DONE), 'any page that sees the session ends that')
  clock.advance(3601)
  t.equal((await browser.goto('/me')).status, 200)
})

t.test('K1 the cookie that stops a loop is small, and whatever it holds does no harm', async (t) => {
  const { app, browser } = await startApp(t)
  for (const value of ['', '.', 'x'.repeat(3000), '....', '%', '"', Array.from({ length: 500 }, () => 'a').join('.')]) {
    const response = await app.inject({ url: '/me', headers: { ...NAVIGATION, cookie: `${DONE}=${value}` } })
    t.equal(response.statusCode, 302, value.slice(0, 20))
  }
  for (let index = 0; index < 12; index++) {
    const { location } = await browser.goto(`/me?${index}`, { until: ({ pathname }) => pathname === '/me' })
    t.equal(location, `${BASE_URL}/me?${index}`)
    browser.cookies.delete(SESSION_COOKIE)
    t.ok((browser.cookies.get(DONE) as string).length <= 67, 'four logins at most')
  }
})
