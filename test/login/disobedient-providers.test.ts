import t from 'tap'
import { client, faults, startProvider } from '../../lib/testing/index.ts'
import {
  BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor, registrationOf, startApp, stopClock
} from '../support/app.ts'
import { start, tokenOf } from '../support/bearer.ts'
import { start as startBroker, followToNative, pkce, REDIRECT_URI } from '../support/broker.ts'
import {
  CALLBACK, SESSION_COOKIE, assertLoggedIn, assertRefused, captureLog, cookiesSet, loginCookies,
  loginRoute
} from '../support/protocol.ts'
import type { Test } from 'tap'
import type { OidcOptions, OidcSession } from '../../index.ts'
import type { Claims, Fault, Provider } from '../../lib/testing/index.ts'

t.setTimeout(120_000) // where other work shares the cores

const HOUR = 3600

/** A provider that ignores max_age: it never asks, unless it must by `prompt`. */
function ignoreMaxAge (authTime: (claims: Claims) => unknown): Fault {
  return { on: 'token', idToken: (claims) => ({ ...claims, auth_time: authTime(claims) }) }
}

function asked (provider: Provider): Array<[prompt: string | undefined, maxAge: string | undefined]> {
  const { requests } = provider
  return requests.filter(({ endpoint }) => endpoint === 'authorize')
    .map(({ query }) => [query['prompt'], query['max_age']])
}

t.test('K14 a provider that ignores max_age is asked once more, with prompt=login', async (t) => {
  const { app, provider, browser } = await startApp(t)
  app.get('/fresh', { preHandler: app.oidc.required({ maxAge: 60, acr: '1' }) }, async ({ oidcSession }) => ({
    ...oidcSession
  }))
  for (const authTime of [undefined, (claims: Claims) => Number(claims['auth_time']) - HOUR]) {
    browser.cookies.clear()
    provider.clearRequests()
    let tokens = 0
    const clear = provider.fault(ignoreMaxAge((claims) => ++tokens === 1 ? authTime?.(claims) : claims['auth_time']))
    const page = await browser.goto('/fresh?x=1')
    clear()
    t.match([page.status, page.url], [200, `${BASE_URL}/fresh?x=1`])
    t.same(asked(provider), [[undefined, '60'], ['login', '60']])
    const requests = provider.requests.filter(({ endpoint }) => endpoint === 'authorize')
    t.same(requests.map(({ query }) => query['acr_values']), ['1', '1'])
    t.equal(provider.count('token'), 2)
    await assertLoggedIn(t, browser)
  }
})

t.test('K14 a provider that does not ask again gets a page and a log line that say so, and no loop', async (t) => {
  const { lines, server } = captureLog()
  const { app, provider, browser } = await startApp(t, {}, {}, server)
  app.get('/fresh', { preHandler: app.oidc.required({ maxAge: 60 }) }, async () => 'fresh')
  const cases: Array<[authTime: Fault, reason: RegExp]> = [
    [faults['auth-time-missing'], /auth_time is missing.*prompt=login, set \\"authTime\\" to \\"optional\\"/],
    [ignoreMaxAge((claims) => Number(claims['auth_time']) - HOUR), /auth_time is \d+, at \d+ older than max_age 60/]
  ]
  for (const [fault, reason] of cases) {
    const clear = provider.fault(fault)
    provider.clearRequests()
    const page = await browser.goto('/fresh')
    clear()
    await assertRefused(t, { page, browser, provider }, 403, 'FST_OIDC_ID_TOKEN')
    t.match(page.text(), 'The identity provider did not ask you to log in again')
    t.match(page.text(), 'Back to the start', 'another login would end here again')
    t.notMatch(page.text(), 'authTime')
    t.same(asked(provider), [[undefined, '60'], ['login', '60']])
    t.match(lines(), reason)
  }
})

t.test('K14 authTime: optional accepts a missing auth_time after prompt=login, as the time of this login', async (t) => {
  const clock = stopClock(t)
  const { app, provider, browser } = await startApp(t, { authTime: 'optional' })
  app.get('/fresh', { preHandler: app.oidc.required({ maxAge: 60 }) }, async ({ oidcSession }) => ({ ...oidcSession }))
  loginRoute(app, '/again', { maxAge: 60, prompt: 'login', returnTo: '/fresh' })
  provider.fault(faults['auth-time-missing'])
  await browser.goto('/me')
  t.equal((await browser.fetch('/fresh')).status, 401, 'a login without prompt=login is not recent')
  provider.clearRequests()
  clock.advance(100)
  const page = await browser.goto('/fresh')
  t.equal(page.status, 200)
  t.same(asked(provider), [[undefined, '60'], ['login', '60']])
  const { authTime, loginTime } = page.json() as OidcSession
  t.equal(authTime, loginTime)
  clock.advance(91)
  t.equal((await browser.fetch('/fresh')).status, 401, 'it grows old like any other')

  provider.clearRequests()
  t.equal((await browser.goto('/again')).status, 200)
  t.same(asked(provider), [['login', '60']], 'a login that began with prompt=login needs no second one')
})

t.test('K14 S29 an auth_time that is older is never accepted, with the option neither', async (t) => {
  const { app, provider } = await startApp(t, { authTime: 'optional' })
  app.get('/fresh', { preHandler: app.oidc.required({ maxAge: 60 }) }, async () => 'fresh')
  for (const authTime of [
    (claims: Claims) => Number(claims['auth_time']) - 120, () => 0, () => null, () => '', () => 'now', () => []
  ]) {
    const clear = provider.fault(ignoreMaxAge(authTime))
    const browser = client({ app, baseUrl: BASE_URL })
    provider.clearRequests()
    const page = await browser.goto('/fresh')
    clear()
    await assertRefused(t, { page, browser, provider }, 403, 'FST_OIDC_ID_TOKEN')
    t.ok(provider.count('authorize') <= 2)
  }
  const silent = await startApp(t, { authTime: 'optional', loginParams: ['prompt', 'max_age'] })
  await silent.browser.goto('/auth/login')
  silent.provider.clearRequests()
  silent.provider.fault(faults['auth-time-missing'])
  const page = await silent.browser.goto('/auth/login?prompt=none&max_age=600')
  t.match([page.status, page.text()], [403, 'FST_OIDC_ID_TOKEN'])
  t.same(asked(silent.provider), [['none', '600']], 'a login that must not ask does not begin one that asks')
})

t.test('K14 authTime has two values', async (t) => {
  await t.rejects(startApp(t, { authTime: 'sometimes' as never }), { code: 'FST_OIDC_OPTION', message: /"authTime"/ })
})

t.test('K14 the second request keeps what else prompt asks for', async (t) => {
  const { app, provider, browser } = await startApp(t, { offlineAccess: true })
  app.get('/fresh', { preHandler: app.oidc.required({ maxAge: 60 }) }, async () => 'fresh')
  provider.fault({ ...faults['auth-time-missing'], times: 1 })
  t.equal((await browser.goto('/fresh')).status, 200)
  t.same(asked(provider), [['consent', '60'], ['login consent', '60']])
})

t.test('K14 the second request of a native login leads back to its application', async (t) => {
  const { provider, browser } = await startBroker(t, { authorizationParams: { max_age: '60' } })
  provider.fault({ ...faults['auth-time-missing'], times: 1 })
  const url = await followToNative(browser, {
    redirect_uri: REDIRECT_URI,
    client_id: 'cli',
    code_challenge: pkce().challenge,
    code_challenge_method: 'S256',
    state: 'native'
  })
  t.equal(url.searchParams.get('state'), 'native')
  t.same(asked(provider), [[undefined, '60'], ['login', '60']])
  t.ok(url.searchParams.get('code'))
})

t.test('K14 a second request that comes too late begins once more', async (t) => {
  const clock = stopClock(t)
  const { app, provider, browser } = await startApp(t)
  app.get('/fresh', { preHandler: app.oidc.required({ maxAge: 60 }) }, async () => 'fresh')
  provider.fault({ ...faults['auth-time-missing'], times: 1 })
  let callbacks = 0
  const late = await browser.goto('/fresh', { until: ({ href }) => href.startsWith(CALLBACK) && ++callbacks === 2 })
  clock.advance(601)
  const page = await browser.goto(late.location as string)
  t.match([page.status, page.text()], [200, 'fresh'])
  t.same(asked(provider), [[undefined, '60'], ['login', '60'], ['login', '60']])
})

for (const [name, options] of [
  ['form_post', { responseMode: 'form_post' }],
  ['SameSite=Strict', { session: { key: SESSION_KEY, sameSite: 'strict' } }]
] as Array<[string, Partial<OidcOptions>]>) {
  t.test(`K14 S36 ${name}: a login in two requests ends the session before it`, async (t) => {
    const ended: string[] = []
    const { app, provider, browser } = await startApp(t, {
      ...options,
      onLogout: ({ id }, { reason }) => { ended.push(`${id} ${reason}`) }
    })
    loginRoute(app, '/again', { maxAge: 60, returnTo: '/me' })
    const { session } = (await browser.goto('/me')).json() as { session: OidcSession }
    provider.fault({ ...faults['auth-time-missing'], times: 1 })
    t.equal((await browser.goto('/again')).status, 200)
    t.same(ended, [`${session.id} login`])
  })
}

// prompt=none

interface Silent {
  app: Awaited<ReturnType<typeof startApp>>['app']
  provider: Provider
  browser: Awaited<ReturnType<typeof startApp>>['browser']
  clock: ReturnType<typeof stopClock>
  lines: () => string
}

async function startSilent (t: Test, options: Partial<OidcOptions> = {}): Promise<Silent> {
  const clock = stopClock(t)
  const { lines, server } = captureLog()
  const world = await startApp(t, options, {}, server)
  world.app.get('/page', { preHandler: world.app.oidc.optional({ silent: true }) }, async ({ oidcClaims }) => ({
    sub: oidcClaims?.sub ?? null
  }))
  return { ...world, clock, lines }
}

function answer (change: (params: URLSearchParams) => void): Fault {
  return {
    on: 'authorize',
    authorizationResponse: (params) => {
      params.delete('code')
      params.set('error', 'login_required')
      change(params)
    }
  }
}

const withoutState = (params: URLSearchParams): void => {
  params.delete('state')
  params.delete('iss')
}

t.test('K14 an answer to a silent login without state goes back to its page, and takes nothing', async (t) => {
  const { provider, browser, lines } = await startSilent(t)
  const clear = provider.fault(answer(withoutState))
  const page = await browser.goto('/page?x=1')
  t.match([page.status, page.url, page.json()], [200, `${BASE_URL}/page?x=1`, { sub: null }])
  const hop = page.history.at(-2)
  t.same([hop?.status, hop?.setCookie], [302, []], 'no cookie changes')
  t.equal(provider.count('token'), 0)
  t.match(lines(), /"error":"login_required".*the answer to a silent login has no state/)
  t.equal(loginCookies(browser).length, 1, 'the login still waits')
  clear()
  for (let visits = 0; visits < 3; visits++) t.equal((await browser.goto('/page')).status, 200)
  t.equal(provider.count('authorize'), 1)
  const iss = encodeURIComponent(provider.issuer)
  for (const query of ['error=server_error', 'error=x&state=', `error=x&iss=${iss}`, 'error=x&code=stolen']) {
    const again = await browser.step(`/auth/callback?${query}`)
    t.same([again.status, again.location], [302, `${BASE_URL}/page?x=1`], query)
    t.same(again.headers.getSetCookie(), [])
  }
  t.equal(provider.count('token'), 0, 'a code is never read')
})

t.test('K14 without exactly one silent login, an answer without state is refused', async (t) => {
  const { app, provider, browser, clock } = await startSilent(t)
  const refused = async (query: string, from = browser): Promise<void> => {
    const page = await from.goto(`/auth/callback?${query}`)
    t.match([page.status, page.text()], [400, 'FST_OIDC_STATE'], query)
    t.same(page.headers.getSetCookie(), [])
  }
  await refused('error=login_required')
  await browser.step('/auth/login')
  await refused('error=login_required')
  await browser.step('/page')
  await refused('code=stolen')
  await refused('')
  await refused('error=login_required&state=x')
  await refused('error=login_required&iss=https%3A%2F%2Fevil.example')
  await refused(`error=login_required&iss=${encodeURIComponent(`${provider.issuer}/`)}`)
  await refused('error=login_required', client({ app, baseUrl: BASE_URL }))
  t.equal((await browser.step('/auth/callback?error=login_required')).location, `${BASE_URL}/page`)
  const [name = ''] = loginCookies(browser)
  browser.cookies.set(name, `${browser.cookies.get(name)?.slice(0, -2)}AA`)
  t.equal((await browser.step('/auth/callback?error=login_required')).location, `${BASE_URL}/page`, 'others do not matter')

  const two = browser.clone()
  two.cookies.delete(`${SESSION_COOKIE}-silent`)
  await two.step('/page?second')
  await refused('error=login_required', two)
  clock.advance(601)
  await refused('error=login_required')
  t.equal(provider.count('token'), 0)
})

t.test('K14 an answer without state changes no session', async (t) => {
  const { app, provider, browser } = await startSilent(t)
  const pending = await browser.goto('/page', { until: ({ href }) => href.startsWith(CALLBACK) })
  await browser.goto('/auth/login')
  const session = browser.cookies.get(SESSION_COOKIE)
  const page = await browser.step('/auth/callback?error=login_required&code=stolen', { from: 'https://evil.example/' })
  t.same([page.status, page.location, cookiesSet(page)], [302, `${BASE_URL}/page`, []])
  t.equal(browser.cookies.get(SESSION_COOKIE), session)
  await assertLoggedIn(t, browser)
  const done = await browser.step(pending.location as string)
  t.same([done.status, done.location], [302, `${BASE_URL}/page`], 'the silent login can still end')
  t.ok(app.oidc)
  t.ok(provider.count('token') > 0)
})

t.test('K14 several providers: only a silent login of the provider that answers counts', async (t) => {
  const [one, two] = [await startProvider(), await startProvider()]
  t.teardown(async () => await Promise.all([one.close(), two.close()]))
  const { baseUrl, session, allowInsecureLoopback, ...first } = optionsFor(one)
  const providers = { one: first, two: registrationOf(two) }
  const app = await buildApp(t, { baseUrl, session, allowInsecureLoopback: true, providers })
  app.get('/page', { preHandler: app.oidc.optional({ silent: true, provider: 'one' }) }, async () => 'public')
  const browser = client({ app, baseUrl: BASE_URL })
  await browser.step('/page')
  t.match((await browser.goto('/auth/two/callback?error=login_required')).text(), 'FST_OIDC_STATE')
  t.equal((await browser.step('/auth/one/callback?error=login_required')).location, `${BASE_URL}/page`)
})

t.test('K14 a provider that ignores prompt=none shows its form once a day, not every ten minutes', async (t) => {
  const { provider, browser, clock } = await startSilent(t)
  const clear = provider.fault({ on: 'authorize', status: 200, headers: { 'content-type': 'text/html' }, body: '<form>' })
  t.match((await browser.goto('/page')).text(), '<form>')
  for (const wait of [0, 601, 3600, 80_000]) {
    clock.advance(wait)
    t.same((await browser.goto('/page')).json(), { sub: null }, `after ${wait} s the page opens`)
  }
  t.equal(provider.count('authorize'), 1)
  clock.advance(3000)
  t.match((await browser.goto('/page')).text(), '<form>', 'the next day it is tried again')

  clear()
  clock.advance(86_401)
  provider.forget()
  provider.clearRequests()
  provider.fault(answer(() => {}))
  for (const [wait, count] of [[0, 1], [599, 1], [1, 2]] as const) {
    clock.advance(wait)
    t.equal((await browser.goto('/page')).status, 200)
    t.equal(provider.count('authorize'), count, 'one that answers is asked every ten minutes')
  }
})

// New keys

for (const sameKid of [false, true]) {
  t.test(`K14 a provider is restarted with new keys${sameKid ? ' of the same names' : ''}`, async (t) => {
    const { app, provider, send, sendToken } = await start(t)
    const browser = await logIn({ app, provider }, 'alice')
    const old = tokenOf(provider)
    t.equal((await send(`Bearer ${old}`)).statusCode, 200)
    const forged = tokenOf(provider, { overrides: { sub: 'mallory' } })
    provider.rotateKeys({ sameKid })
    provider.forget()
    await assertLoggedIn(t, browser)
    await assertLoggedIn(t, await logIn({ app, provider }, 'bob'), 'bob')
    t.equal((await sendToken()).statusCode, 200, 'new tokens work')
    t.equal((await send(`Bearer ${forged}`)).statusCode, 401, 'a token of the old keys, which nobody has seen, does not')
    await assertLoggedIn(t, browser)
    t.ok(provider.count('jwks') <= 4, `${provider.count('jwks')} requests for keys`)
  })
}
