import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { OidcError, refuse } from '../../index.ts'
import { client, faults, startClock, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor, startApp, stopClock } from '../support/app.ts'
import { createGate } from '../support/gate.ts'
import {
  CALLBACK, LOGIN_COOKIE, SESSION_COOKIE, assertAnonymous, assertLoggedIn, assertNoSecrets, assertRefused,
  attempt, authorizationParams, captureLog, cookiesSet, loginCookies, loginRoute, untilCallback
} from '../support/protocol.ts'
import type { Test } from 'tap'
import type { ClaimsContext, IdTokenClaims, OidcOptions } from '../../index.ts'
import type { Claims, Fault, Provider } from '../../lib/testing/index.ts'

t.setTimeout(120_000) // where other work shares the cores

const page = {
  accept: 'text/html',
  'sec-fetch-mode': 'navigate',
  'sec-fetch-dest': 'document',
  'sec-fetch-site': 'cross-site'
}

function withParam (url: URL, name: string, value: string | null): string {
  const changed = new URL(url)
  if (value === null) changed.searchParams.delete(name)
  else changed.searchParams.set(name, value)
  return changed.href
}

function isAuthorize (provider: Provider, location: string | undefined): boolean {
  return location?.startsWith(`${provider.issuer}/authorize?`) ?? false
}

async function startedProvider (t: Test, ...options: Parameters<typeof startProvider>): Promise<Provider> {
  const provider = await startProvider(...options)
  t.teardown(async () => await provider.close())
  return provider
}

// State

const badStates: Record<string, (state: string) => string | null> = {
  missing: () => null,
  empty: () => '',
  unknown: () => '0mwt0000000000000000000000000000',
  longer: (state) => `${state}1`,
  shorter: (state) => state.slice(0, -1),
  'the name of the cookie': (state) => state.slice(0, 16),
  'another after the name of the cookie': (state) => `${state.slice(0, 16)}${'A'.repeat(state.length - 16)}`,
  'in capitals': (state) => state.toUpperCase(),
  'with a space': (state) => ` ${state}`,
  __proto__: () => '__proto__',
  'a cookie': (state) => `${state}; ${SESSION_COOKIE}=x`
}

t.test('S13 C44 C45 a missing, unknown or changed state is refused, and the login goes on', async (t) => {
  const { provider, browser } = await startApp(t)
  const callback = await untilCallback(browser)
  const state = callback.searchParams.get('state') as string
  for (const [what, change] of Object.entries(badStates)) {
    await t.test(what, async (t) => {
      const page = await browser.goto(withParam(callback, 'state', change(state)))
      await assertRefused(t, { page, browser, provider }, 400, 'FST_OIDC_STATE')
      t.match(page.text(), `href="${BASE_URL}/auth/login"`, 'the page offers to start again')
      t.equal(provider.count('token'), 0)
    })
  }
  t.equal((await browser.goto(callback.href)).url, `${BASE_URL}/me`, 'the right state still works')
})

t.test('S13 a bad state does not affect the session of a user who is logged in', async (t) => {
  const { provider, browser } = await startApp(t)
  await browser.goto('/auth/login')
  const callback = await untilCallback(browser)
  const session = browser.cookies.get(SESSION_COOKIE)
  for (const [what, change] of Object.entries(badStates)) {
    const page = await browser.step(withParam(callback, 'state', change(callback.searchParams.get('state') as string)))
    t.same([page.status, page.location], [302, `${BASE_URL}/`], what)
    t.same(cookiesSet(page), [], what)
  }
  t.equal(browser.cookies.get(SESSION_COOKIE), session)
  t.equal(provider.count('token'), 1, 'only that of the first login')
})

t.test('S13 V12 V13 a callback in another browser than that of the login is refused', async (t) => {
  let person = 'mallory'
  const { provider, app, browser: attacker } = await startApp(t, {}, { approve: () => person })
  const stolen = await untilCallback(attacker)
  person = 'bob'

  await t.test('in a browser without a login', async (t) => {
    const victim = client({ app, baseUrl: BASE_URL })
    await assertRefused(
      t,
      { page: await victim.goto(stolen.href, { from: 'https://evil.example/' }), browser: victim, provider },
      400,
      'FST_OIDC_STATE'
    )
    t.equal(provider.count('token'), 0)
  })
  await t.test('in a browser with a login of its own under way', async (t) => {
    const victim = client({ app, baseUrl: BASE_URL })
    const own = await untilCallback(victim)
    await assertRefused(t, { page: await victim.goto(stolen.href), browser: victim, provider }, 400, 'FST_OIDC_STATE')
    t.equal(provider.count('token'), 0)
    const mixed = withParam(own, 'code', stolen.searchParams.get('code'))
    await assertRefused(t, { page: await victim.goto(mixed), browser: victim, provider }, 400, 'FST_OIDC_CODE')
    t.equal(provider.count('token'), 1, 'PKCE binds the code to the login')
  })
  await t.test('in a browser with a session', async (t) => {
    const victim = client({ app, baseUrl: BASE_URL })
    await victim.goto('/auth/login')
    const session = victim.cookies.get(SESSION_COOKIE)
    const page = await victim.goto(stolen.href)
    t.equal(page.url, `${BASE_URL}/`)
    t.equal(victim.cookies.get(SESSION_COOKIE), session)
    await assertLoggedIn(t, victim, 'bob')
  })
})

t.test('S13 a pending login under another name, or for another purpose, is refused', async (t) => {
  const { provider, browser } = await startApp(t)
  const [one, two] = [await untilCallback(browser), await untilCallback(browser)]
  const [first = '', second = ''] = loginCookies(browser)
  const values = [browser.cookies.get(first) as string, browser.cookies.get(second) as string]
  browser.cookies.set(first, values[1] as string)
  browser.cookies.set(second, values[0] as string)
  for (const callback of [one, two]) {
    await assertRefused(t, { page: await browser.goto(callback.href), browser, provider }, 400, 'FST_OIDC_STATE')
  }
  t.equal(provider.count('token'), 0)

  const other = browser.clone()
  other.cookies.set(SESSION_COOKIE, values[0] as string)
  t.equal((await other.fetch('/me')).status, 401, 'it is no session')
  browser.cookies.set(first, values[0] as string)
  await browser.goto(one.href)
  browser.cookies.set(second, browser.cookies.get(SESSION_COOKIE) as string)
  browser.cookies.delete(SESSION_COOKIE)
  await assertRefused(t, { page: await browser.goto(two.href), browser, provider }, 400, 'FST_OIDC_STATE')
})

t.test('S13 R23 a pending login that was tampered with is refused', async (t) => {
  const { provider, app, browser } = await startApp(t)
  const callback = await untilCallback(browser)
  const [name = ''] = loginCookies(browser)
  const value = browser.cookies.get(name) as string
  const changes = Array.from({ length: 24 }, (_, index) => {
    const at = Math.floor(index * (value.length - 1) / 23)
    return `${value.slice(0, at)}${value[at] === 'A' ? 'B' : 'A'}${value.slice(at + 1)}`
  })
  for (const changed of [
    ...changes,
    value.slice(1),
    value.slice(0, -1),
    `${value}A`,
    `A${value}`,
    value.replace('.', ';'),
    value.replace('.', '..'),
    `"${value}"`,
    '',
    '.',
    encodeURIComponent(`${value}=`)
  ].filter((changed) => changed !== value)) {
    const response = await app.inject({ url: callback.href, headers: { ...page, cookie: `${name}=${changed}` } })
    t.equal(response.statusCode, 400, changed.slice(0, 20))
    t.match(response.body, 'FST_OIDC_STATE')
  }
  t.equal(provider.count('token'), 0)
  t.equal(
    (await app.inject({ url: callback.href, headers: { ...page, cookie: `${name}=${value}` } })).statusCode,
    302,
    'as it was it works'
  )
})

// A callback is used once

t.test('S14 a pending login is used up before the token request, and is used once', async (t) => {
  const { provider, browser } = await startApp(t, { timeout: 5 })
  const callback = await untilCallback(browser)
  const off = provider.fault(faults['token-hang'])
  const [first, second] = await Promise.all([browser.step(callback.href), browser.step(callback.href)])
  off()
  t.equal(first.status, 503)
  t.match(first.text(), 'FST_OIDC_PROVIDER_UNAVAILABLE')
  t.same([second.status, isAuthorize(provider, second.location)], [302, true], 'the second begins a new login')
  t.equal(provider.count('token'), 1)
  await assertAnonymous(t, browser)

  const again = await browser.goto(callback.href)
  t.equal(again.url, `${BASE_URL}/me`, 'a new login with a new code leads to the goal')
  const codes = provider.requests.filter(({ endpoint }) => endpoint === 'token').map(({ body }) => body['code'])
  t.same([codes.length, new Set(codes).size, codes[0]], [2, 2, callback.searchParams.get('code')])
})

t.test('S14 V34 R18 twenty identical callbacks at once: one token request, one session', async (t) => {
  const { provider, app, browser } = await startApp(t)
  const callback = await untilCallback(browser)
  const request = { url: callback.href, headers: { ...page, cookie: browser.cookies.header(CALLBACK) } }
  provider.fault({ on: 'token', delay: 50 })
  const responses = await Promise.all(Array.from({ length: 20 }, async () => await app.inject(request)))
  const sessions = responses.filter(({ cookies }) => cookies.some(({ name }) => name === SESSION_COOKIE))
  t.equal(sessions.length, 1)
  t.equal(sessions[0]?.headers.location, `${BASE_URL}/me`)
  t.equal(
    responses.filter(({ headers }) => isAuthorize(provider, headers.location as string)).length,
    19,
    'the others begin again'
  )
  t.equal(provider.count('token'), 1)

  const replayed = await Promise.all(Array.from({ length: 20 }, async () => await app.inject(request)))
  t.notOk(
    replayed.some(({ cookies }) => cookies.some(({ name }) => name === SESSION_COOKIE)),
    'a replay of the same cookies gives no session'
  )
  t.equal(provider.count('token'), 1)
})

t.test('S14 R17 reload, back button and bookmark of a callback lead to the page of the login', async (t) => {
  const { provider, browser } = await startApp(t)
  const callback = await untilCallback(browser, '/auth/login?return_to=/me%3Ftab%3D1')
  await browser.goto(callback.href)
  const session = browser.cookies.get(SESSION_COOKIE)
  for (let i = 0; i < 3; i++) {
    const again = await browser.goto(callback.href)
    t.same([again.status, again.url], [200, `${BASE_URL}/me?tab=1`])
  }
  t.equal(browser.cookies.get(SESSION_COOKIE), session, 'the session is the same')
  t.equal(provider.count('token'), 1)

  browser.cookies.delete(SESSION_COOKIE)
  const anonymous = await browser.goto(callback.href)
  t.same([anonymous.status, anonymous.url], [200, `${BASE_URL}/me?tab=1`], 'without the session it logs in again')
  t.equal(provider.count('authorize'), 2)
})

t.test('S14 a callback with a used code leads to the page when another tab has logged in', async (t) => {
  const { provider, browser } = await startApp(t)
  const path = '/auth/login?return_to=/me%3Fa%3D1%26b%3D2'
  provider.fault(faults['authorization-response-other-code'])
  const page = await browser.goto(path)
  await assertRefused(t, { page, browser, provider }, 400, 'FST_OIDC_CODE')
  t.match(
    page.text(),
    `href="${BASE_URL}/auth/login?return_to=${encodeURIComponent(`${BASE_URL}/me?a=1&b=2`)}"`,
    'the page knows where to go'
  )

  provider.clearFaults()
  await browser.goto('/auth/login')
  const session = browser.cookies.get(SESSION_COOKIE)
  provider.fault(faults['authorization-response-other-code'])
  t.equal((await browser.goto(path)).url, `${BASE_URL}/me?a=1&b=2`)
  t.equal(browser.cookies.get(SESSION_COOKIE), session, 'with the session that was there')

  provider.clearFaults()
  for (const name of ['token-500', 'nonce-invalid', 'authorization-response-error'] as const) {
    const off = provider.fault(faults[name])
    t.ok((await browser.goto(path)).status >= 400, `${name} is shown all the same`)
    off()
  }
})

t.test('R17 a callback after the logout does not log in', async (t) => {
  const { provider, browser } = await startApp(t)
  const used = await untilCallback(browser)
  await browser.goto(used.href)
  const underWay = await untilCallback(browser)
  t.equal((await browser.post('/auth/logout')).status, 200)
  provider.clearRequests()
  for (const callback of [used, underWay]) {
    await assertRefused(t, { page: await browser.goto(callback.href), browser, provider }, 400, 'FST_OIDC_STATE')
  }
  t.equal(provider.count('token'), 0)
})

t.test('S14 a callback that comes too late begins the login again, once', async (t) => {
  const { provider, app, browser } = await startApp(t)
  const clock = startClock()
  t.teardown(() => clock.restore())
  loginRoute(app, '/step-up', { maxAge: 60, acrValues: ['gold', 'silver'], returnTo: '/me?tab=1' })
  const late = await untilCallback(browser, '/step-up')
  clock.advance(601)
  const again = await browser.step(late.href)
  t.equal(again.status, 302)
  t.ok(isAuthorize(provider, again.location))
  const params = authorizationParams(again)
  t.not(params['state'], late.searchParams.get('state'))
  t.same([params['max_age'], params['acr_values']], ['60', 'gold silver'], 'what was asked for is asked for again')
  t.equal(provider.count('token'), 0)

  const second = await untilCallback(browser, again.location)
  clock.advance(601)
  await assertRefused(t, { page: await browser.goto(second.href), browser, provider }, 400, 'FST_OIDC_STATE')
  t.equal(provider.count('token'), 0)
})

t.test('S14 a late callback leads to the page when there is a session by then', async (t) => {
  const { provider, browser } = await startApp(t)
  const clock = startClock()
  t.teardown(() => clock.restore())
  const late = await untilCallback(browser, '/auth/login?return_to=/me%3Ftab%3D1')
  clock.advance(601)
  await browser.goto('/auth/login')
  t.equal((await browser.goto(late.href)).url, `${BASE_URL}/me?tab=1`)
  t.equal(provider.count('token'), 1)
})

t.test('S13 after two hours a pending login has expired everywhere', async (t) => {
  const { provider, browser } = await startApp(t)
  const clock = startClock()
  t.teardown(() => clock.restore())
  const late = await untilCallback(browser)
  clock.advance(7201)
  await assertRefused(t, { page: await browser.goto(late.href), browser, provider }, 400, 'FST_OIDC_STATE')
})

t.test('R10 a pending login from the future begins again', async (t) => {
  const { provider, browser } = await startApp(t)
  const clock = startClock()
  t.teardown(() => clock.restore())
  const callback = await untilCallback(browser)
  clock.advance(-62)
  t.ok(isAuthorize(provider, (await browser.step(callback.href)).location))
  t.equal(provider.count('token'), 0)
})

t.test('R16 a prefetch or a link preview does not use a callback up', async (t) => {
  const { provider, app, browser } = await startApp(t)
  const callback = await untilCallback(browser)
  const cookie = browser.cookies.header(CALLBACK)
  const preview = await app.inject({ url: callback.href, headers: { 'user-agent': 'link preview' } })
  t.same([preview.statusCode, preview.json().code], [400, 'FST_OIDC_STATE'], 'a bot without cookies')
  const scanner = await app.inject({ url: callback.href, headers: { accept: 'text/html' } })
  t.equal(scanner.statusCode, 400)
  for (const header of ['purpose', 'sec-purpose', 'x-moz', 'x-purpose']) {
    const ahead = await app.inject({
      url: callback.href,
      headers: { ...page, cookie, [header]: header === 'x-purpose' ? 'preview' : 'prefetch' }
    })
    t.equal(ahead.statusCode, 503, header)
    t.match(ahead.body, 'FST_OIDC_PREFETCH')
    t.notOk(ahead.headers['set-cookie'])
  }
  t.equal(provider.count('token'), 0)
  t.equal((await browser.goto(callback.href)).url, `${BASE_URL}/me`)
})

t.test('S9 R15 HEAD and other methods do not use a callback up', async (t) => {
  const provider = await startedProvider(t)
  for (const exposeHeadRoutes of [true, false]) {
    const app = await buildApp(t, optionsFor(provider), { exposeHeadRoutes })
    const browser = client({ app, baseUrl: BASE_URL })
    const callback = await untilCallback(browser)
    provider.clearRequests()
    for (const method of ['HEAD', 'OPTIONS', 'TRACE', 'PUT', 'POST', 'PATCH', 'DELETE']) {
      const response = await browser.step(callback.href, { method })
      t.equal(response.status, method === 'OPTIONS' ? 404 : 405, method)
      t.same(cookiesSet(response), [], method)
    }
    t.equal(provider.requests.length, 0)
    t.equal((await browser.goto(callback.href)).url, `${BASE_URL}/me`)
  }
})

// The response of the provider

t.test('S15 C42 C43 the response must be from the issuer of the request', async (t) => {
  const provider = await startedProvider(t)
  const answer = (change: (iss: string) => string | null): Fault => ({
    on: 'authorize',
    authorizationResponse: (params) => {
      const iss = change(params.get('iss') as string)
      if (iss === null) params.delete('iss')
      else params.set('iss', iss)
    }
  })
  const silent: Fault = {
    on: 'metadata',
    metadata: (document) => {
      delete document['authorization_response_iss_parameter_supported']
    }
  }
  const wrong: Record<string, Fault[]> = {
    'another issuer': [faults['invalid-authorization-response-iss']],
    'no issuer': [faults['remove-authorization-response-iss']],
    'an empty issuer': [answer(() => '')],
    'a trailing slash': [answer((iss) => `${iss}/`)],
    'other capitals': [answer((iss) => iss.replace('http:', 'HTTP:'))],
    'another one of a provider that does not tell of the parameter': [silent, answer(() => 'https://evil.example')],
    'another one in an error response': [faults['authorization-response-error'], answer(() => 'https://evil.example')],
    'none in an error response': [faults['authorization-response-error'], faults['remove-authorization-response-iss']]
  }
  for (const [what, applied] of Object.entries(wrong)) {
    await t.test(what, async (t) => {
      const tried = await attempt(t, provider, applied)
      await assertRefused(t, tried, 400, 'FST_OIDC_RESPONSE_ISSUER')
      t.equal(provider.count('token'), 0)
      t.ok(isAuthorize(provider, (await tried.browser.step(tried.page.url)).location), 'the login is used up')
    })
  }
  await t.test('iss may be missing when the metadata does not announce it', async (t) => {
    const { browser, page } = await attempt(t, provider, [silent, faults['remove-authorization-response-iss']])
    t.equal(page.url, `${BASE_URL}/me`)
    await assertLoggedIn(t, browser)
  })
})

t.test('S17 an error of the provider is shown with a text of the plugin, after the state is checked', async (t) => {
  const { lines, server } = captureLog()
  const { provider, browser } = await startApp(t, {}, {}, server)
  provider.fault(faults['authorization-response-error'])
  const callback = await untilCallback(browser)
  t.equal(callback.searchParams.get('error_description'), '<script>alert(1)</script>')

  const stranger = await browser.goto(withParam(callback, 'state', 'unknown'))
  await assertRefused(t, { page: stranger, browser, provider }, 400, 'FST_OIDC_STATE')
  t.match(lines(), 'access_denied', 'the log says why, also without a login')

  const page = await browser.goto(callback.href)
  await assertRefused(t, { page, browser, provider }, 403, 'FST_OIDC_PROVIDER_REFUSED')
  t.notMatch(page.text() + JSON.stringify([...page.headers]), /alert|access_denied|<script/)
  t.match(page.headers.get('content-security-policy'), "default-src 'none'")
  t.equal(page.headers.get('x-content-type-options'), 'nosniff')
  t.equal(provider.count('token'), 0)
  t.match(lines(), 'access_denied', 'the log says why')
  t.ok(isAuthorize(provider, (await browser.step(callback.href)).location), 'the login is used up: again means anew')
})

t.test('S17 R37 errors from outside are short and plain in the log, and JSON for a script', async (t) => {
  const { lines, server } = captureLog()
  const { provider, browser } = await startApp(t, {}, {}, server)
  const hostile = `x\r\n{"level":60}\u001b[31m\u202e${'a'.repeat(3000)}`
  provider.fault({
    on: 'authorize',
    authorizationResponse: (params) => {
      params.delete('code')
      params.set('error', hostile)
      params.set('error_description', hostile)
    }
  })
  const callback = await untilCallback(browser)
  const answer = await browser.fetch(callback.href)
  t.equal(answer.status, 403)
  t.same(answer.json(), {
    statusCode: 403,
    code: 'FST_OIDC_PROVIDER_REFUSED',
    error: 'Forbidden',
    message: 'The identity provider did not log you in.'
  })
  const entry = lines()
    .split('\n')
    .find((line) => line.includes('FST_OIDC_PROVIDER_REFUSED')) as string
  t.match(entry, 'x??{')
  t.notMatch(entry, /\\r|\\n|\\u001b|\u202e/)
  t.ok(entry.length < 900, `${entry.length} characters`)
})

t.test('S17 an error wins over a code, and an empty one is an error', async (t) => {
  const provider = await startedProvider(t)
  const empty: Fault = { on: 'authorize', authorizationResponse: (params) => params.set('error', '') }
  for (const fault of [faults['authorization-response-error-and-code'], empty]) {
    const tried = await attempt(t, provider, fault)
    await assertRefused(t, tried, 403, 'FST_OIDC_PROVIDER_REFUSED')
    t.equal(provider.count('token'), 0)
  }
  const noCode = await attempt(t, provider, faults['authorization-response-without-code'])
  await assertRefused(t, noCode, 400, 'FST_OIDC_PARAMETER')
  const emptyCode = await attempt(t, provider, {
    on: 'authorize',
    authorizationResponse: (params) => params.set('code', '')
  })
  await assertRefused(t, emptyCode, 400, 'FST_OIDC_PARAMETER')
  t.equal(provider.count('token'), 0)
})

t.test('S17 the user cancels or denies at the provider', async (t) => {
  const provider = await startedProvider(t)
  for (const error of [
    'access_denied', 'login_required', 'temporarily_unavailable', 'server_error', 'invalid_scope',
    'unmet_authentication_requirements'
  ]) {
    provider.options.approve = () => ({ error })
    const tried = await attempt(t, provider)
    await assertRefused(t, tried, 403, 'FST_OIDC_PROVIDER_REFUSED')
    t.equal(provider.count('token'), 0)
  }
})

t.test('S18 R12 a duplicate parameter is refused, and does not use the login up', async (t) => {
  const { provider, browser } = await startApp(t)
  const callback = await untilCallback(browser)
  const search = callback.search
  const doubled = ['code', 'state', 'iss', 'error', 'error_description', 'response', 'access_token'].flatMap((name) => [
    `&${name}=a&${name}=a`,
    `&${name}=a&${name}=b&${name}=`
  ])
  const same = ['code', 'state', 'iss'].map(
    (name) => `&${name}=${encodeURIComponent(callback.searchParams.get(name) as string)}`
  )
  const encoded = ['&%73tate=x', '&stat%65=', '&cod%65=x']
  for (const extra of [...doubled, ...same, ...encoded]) {
    const page = await browser.goto(`${CALLBACK}${search}${extra}`)
    t.equal(page.status, 400, extra)
    t.match(page.text(), 'FST_OIDC_PARAMETER')
    t.same(cookiesSet(page), [])
  }
  await assertAnonymous(t, browser)
  t.equal(provider.count('token'), 0)
  t.equal((await browser.goto(callback.href)).url, `${BASE_URL}/me`)
})

t.test('S18 a provider that answers twice is refused', async (t) => {
  const provider = await startedProvider(t)
  for (const name of [
    'authorization-response-duplicate-code',
    'authorization-response-duplicate-state',
    'authorization-response-duplicate-iss'
  ] as const) {
    await assertRefused(t, await attempt(t, provider, faults[name]), 400, 'FST_OIDC_PARAMETER')
    t.equal(provider.count('token'), 0)
  }
})

t.test('R12 hostile values are refused without a token request', async (t) => {
  const { provider, app, browser } = await startApp(t)
  const callback = await untilCallback(browser)
  const state = encodeURIComponent(callback.searchParams.get('state') as string)
  const cookie = browser.cookies.header(CALLBACK)
  const queries = [
    `state=${state}%00&code=x`,
    `state=${state}&code=%00`,
    `state=${state}&code=%FF`,
    `state=${state}&code=%ED%A0%80`,
    `state=${state}&code=%C0%AF`,
    'state=%FF&code=x',
    `state=${state}&code=${'a'.repeat(17_000)}`,
    `state=${'a'.repeat(10_000)}&code=x`,
    `state[]=${state}&code=x`,
    `state[0]=${state}&code=x`,
    `state.x=${state}&code=x`,
    `State=${state}&code=x`,
    'state=__proto__&code=x',
    '__proto__=x&constructor=x&toString=x',
    'state',
    '=',
    '&',
    '',
    '%',
    `${'a&'.repeat(3000)}`
  ]
  for (const query of queries) {
    const response = await app.inject({ url: `/auth/callback?${query}`, headers: { ...page, cookie } })
    t.equal(response.statusCode, 400, query.slice(0, 60))
    t.match(response.body, /FST_OIDC_(PARAMETER|STATE)/)
    t.notOk(response.headers['set-cookie'], query.slice(0, 60))
  }
  t.equal(provider.count('token'), 0)
  t.equal((await browser.goto(callback.href)).url, `${BASE_URL}/me`)
})

t.test('R12 R35 no query makes the callback fail or log in', async (t) => {
  const { provider, app, browser } = await startApp(t)
  const callback = await untilCallback(browser)
  const state = callback.searchParams.get('state') as string
  const cookie = browser.cookies.header(CALLBACK)
  const names = fc.constantFrom(
    'state', 'code', 'iss', 'error', 'error_description', 'id_token', 'access_token', '__proto__', 'response',
    'state[]'
  )
  const values = fc.oneof(
    fc.constantFrom(state, `${state}=`, provider.issuer, '%', '%00', '%FF', '+', '%2B', '', 'a'.repeat(5000)),
    fc.string().map(encodeURIComponent)
  )
  const pair = fc.tuple(names, values).map(([name, value]) => `${name}=${value}`)
  await fc.assert(
    fc.asyncProperty(fc.array(pair, { maxLength: 8 }), async (pairs) => {
      const { statusCode, cookies, headers } = await app.inject({
        url: `/auth/callback?${pairs.join('&')}`,
        headers: { ...page, cookie }
      })
      t.ok(
        statusCode === 400 || statusCode === 403 || isAuthorize(provider, headers.location as string),
        `${statusCode} ${headers.location}`
      )
      t.notOk(cookies.some(({ name }) => name === SESSION_COOKIE))
    }),
    { numRuns: 150 }
  )
})

t.test('S19 tokens in the response are never used', async (t) => {
  const provider = await startedProvider(t)
  const contexts: ClaimsContext[] = []
  const { browser, page } = await attempt(t, provider, faults['authorization-response-with-tokens'], {
    onClaims: (_claims, context) => {
      contexts.push(context)
    }
  })
  t.equal(page.url, `${BASE_URL}/me`)
  t.notMatch(JSON.stringify(contexts[0]?.tokens), 'front')
  await assertLoggedIn(t, browser)

  const forged = provider.idToken({ sub: 'mallory' })
  const only: Fault = {
    on: 'authorize',
    authorizationResponse: (params) => {
      params.delete('code')
      params.set('id_token', forged)
      params.set('access_token', 'x')
    }
  }
  await assertRefused(t, await attempt(t, provider, only), 400, 'FST_OIDC_PARAMETER')
  t.equal(provider.count('token'), 0)
})

t.test('S20 after the login the address has no code, and no cache or referrer keeps one', async (t) => {
  const { provider, browser } = await startApp(t)
  const callback = await untilCallback(browser)
  const page = await browser.step(callback.href)
  t.same([page.status, page.location], [302, `${BASE_URL}/me`])
  t.equal(page.headers.get('cache-control'), 'no-store')
  t.equal(page.headers.get('referrer-policy'), 'no-referrer')
  t.match(page.headers.get('vary'), 'Cookie')
  t.equal(page.text(), '')
  t.same(
    cookiesSet(page).sort(),
    [
      SESSION_COOKIE,
      loginCookies(browser)[0],
      `${SESSION_COOKIE}-tokens-0`
    ].sort()
  )
  t.same(browser.cookies.refused, [])
  t.equal(provider.count('token'), 1)
})

t.test('S21 V38 codes, tokens and secrets are in no log line, at any level', async (t) => {
  const { lines, server } = captureLog()
  const tokens: string[] = []
  const { provider, browser } = await startApp(
    t,
    {
      offlineAccess: true,
      userinfo: true,
      onClaims: (_claims, context) => {
        tokens.push(
          context.tokens.access_token,
          context.tokens.refresh_token as string,
          context.tokens.id_token as string
        )
      }
    },
    {},
    server
  )
  await browser.goto('/auth/login?return_to=/me')
  await browser.post('/auth/logout')
  const faulty = [
    'nonce-invalid', 'sig-other-key', 'token-500', 'token-html', 'token-array',
    'token-response-without-id-token', 'userinfo-invalid-sub', 'jwks-500', 'invalid-authorization-response-iss',
    'authorization-response-other-code'
  ] as const
  for (const name of faulty) {
    const off = provider.fault(...[faults[name]].flat())
    const callback = await untilCallback(browser)
    await browser.goto(callback.href)
    await browser.goto(callback.href, { until: () => true })
    off()
  }
  const sent = provider.requests.flatMap(({ body, query, headers }) => [
    query['state'],
    query['nonce'],
    body['code'],
    body['code_verifier'],
    body['refresh_token'],
    body['token'],
    headers.authorization,
    query['id_token_hint']
  ])
  const secrets = [
    ...sent,
    ...tokens,
    provider.clients[0]?.client_secret,
    SESSION_KEY,
    ...browser.cookies.list().map(({ value }) => value)
  ].filter((value) => typeof value === 'string')
  t.ok(secrets.length > 60, `${secrets.length} secrets`)
  t.ok(lines().length > 5000, 'there is a log')
  t.match(lines(), 'FST_OIDC_ID_TOKEN')
  t.same(secrets.filter((secret) => lines().includes(secret)), [])
  t.notMatch(lines(), /eyJ[\w-]{10}/)
})

// Forms

t.test('S22 form_post: the provider posts, and the cookie of the pending login comes along', async (t) => {
  const { provider, browser } = await startApp(t, { responseMode: 'form_post' })
  const start = await browser.step('/auth/login?return_to=/me')
  t.equal(authorizationParams(start)['response_mode'], 'form_post')
  t.match(start.headers.getSetCookie()[0], /; HttpOnly; Secure; SameSite=None$/)
  const form = await browser.goto(start.location as string, { submit: false })
  t.equal(form.form?.method, 'POST')
  t.equal(form.form?.action.href, CALLBACK)

  const asQuery = await browser.step(`${CALLBACK}?${form.form?.fields.toString()}`)
  t.same([asQuery.status, asQuery.headers.get('allow')], [405, 'POST'], 'GET is not for this mode')
  const both = await browser.post(`/auth/callback?${form.form?.fields.toString()}`, '', { from: provider.issuer })
  t.equal(both.status, 400, 'and the query is not read')
  t.equal(provider.count('token'), 0)

  const done = await browser.post('/auth/callback', form.form?.fields, { from: provider.issuer })
  t.same([done.status, done.url], [200, `${BASE_URL}/me`])
  t.equal(done.history[0]?.status, 303)
  t.equal(done.history[0]?.sent['sec-fetch-site'], 'cross-site')
  t.match(
    done.history[0]?.setCookie.find((line) => line.startsWith(`${SESSION_COOKIE}=`)),
    'SameSite=Lax',
    'the session itself stays Lax'
  )
  await assertLoggedIn(t, browser)
})

t.test('S22 form_post: again, late, at once, with an error', async (t) => {
  const { provider, app, browser } = await startApp(t, { responseMode: 'form_post' })
  const clock = startClock()
  t.teardown(() => clock.restore())
  const form = async (): Promise<URLSearchParams> =>
    (await browser.goto('/auth/login?return_to=/me', { submit: false })).form?.fields as URLSearchParams
  const fields = await form()
  const cookie = browser.cookies.header(CALLBACK)
  const request = {
    method: 'POST' as const,
    url: '/auth/callback',
    headers: { ...page, cookie, 'content-type': 'application/x-www-form-urlencoded' },
    payload: fields.toString()
  }
  const responses = await Promise.all(Array.from({ length: 20 }, async () => await app.inject(request)))
  t.equal(responses.filter(({ cookies }) => cookies.some(({ name }) => name === SESSION_COOKIE)).length, 1)
  t.equal(
    responses.filter(
      ({ statusCode, headers }) => statusCode === 303 && isAuthorize(provider, headers.location as string)
    ).length,
    19
  )
  t.equal(provider.count('token'), 1)

  const late = await form()
  clock.advance(601)
  t.equal(
    (await browser.post('/auth/callback', late, { from: provider.issuer })).url,
    `${BASE_URL}/me`,
    'a late one begins once more'
  )

  browser.cookies.clear()
  const stranger = await browser.post('/auth/callback', late, { from: provider.issuer })
  t.same([stranger.status, /FST_OIDC_\w+/.exec(stranger.text())?.[0]], [400, 'FST_OIDC_STATE'])

  provider.fault(faults['authorization-response-error'])
  const denied = await browser.post('/auth/callback', await form(), { from: provider.issuer })
  await assertRefused(t, { page: denied, browser, provider }, 403, 'FST_OIDC_PROVIDER_REFUSED')
})

t.test('S22 form_post: browsers send its cookie over https only', async (t) => {
  const provider = await startedProvider(t)
  await t.rejects(buildApp(t, optionsFor(provider, { responseMode: 'form_post', baseUrl: 'http://localhost:3000' })), {
    code: 'FST_OIDC_OPTION',
    message: /form_post/
  })
})

t.test('S22 POST is not for the query mode', async (t) => {
  const { provider, browser } = await startApp(t)
  const callback = await untilCallback(browser)
  const page = await browser.post('/auth/callback', callback.searchParams, { from: provider.issuer })
  t.same([page.status, page.headers.get('allow')], [405, 'GET'])
  t.match(page.text(), 'FST_OIDC_METHOD')
  t.equal(provider.count('token'), 0)
  t.equal((await browser.goto(callback.href)).url, `${BASE_URL}/me`)
})

t.test('R14 what is no form is refused, and uses nothing up', async (t) => {
  const { provider, app, browser } = await startApp(t, { responseMode: 'form_post' })
  const fields = (await browser.goto('/auth/login?return_to=/me', { submit: false })).form?.fields as URLSearchParams
  const cookie = browser.cookies.header(CALLBACK)
  const form = 'application/x-www-form-urlencoded'
  const cases: Array<[type: string | undefined, payload: string | undefined, status: number, code: string]> = [
    ['application/json', JSON.stringify(Object.fromEntries(fields)), 415, 'FST_OIDC_MEDIA_TYPE'],
    ['multipart/form-data; boundary=x', '--x--', 415, 'FST_OIDC_MEDIA_TYPE'],
    ['text/plain', fields.toString(), 415, 'FST_OIDC_MEDIA_TYPE'],
    ['application/xml', '<a/>', 415, 'FST_OIDC_MEDIA_TYPE'],
    ['nonsense', fields.toString(), 415, 'FST_OIDC_MEDIA_TYPE'],
    [undefined, fields.toString(), 415, 'FST_OIDC_MEDIA_TYPE'],
    [undefined, undefined, 400, 'FST_OIDC_STATE'],
    [form, '', 400, 'FST_OIDC_'],
    [form, 'a'.repeat(5 * 2 ** 20), 413, 'FST_OIDC_BODY'],
    [form, `${fields.toString()}&state=x`, 400, 'FST_OIDC_PARAMETER'],
    [form, `${fields.toString()}&code=${fields.get('code')}`, 400, 'FST_OIDC_PARAMETER'],
    [form, fields.toString().replace('code=', 'code=%FF'), 400, 'FST_OIDC_PARAMETER'],
    [form, fields.toString().replace('code=', 'code=%00'), 400, 'FST_OIDC_PARAMETER'],
    [form, JSON.stringify(Object.fromEntries(fields)), 400, 'FST_OIDC_STATE']
  ]
  for (const [type, payload, status, code] of cases) {
    const response = await app.inject({
      method: 'POST',
      url: '/auth/callback',
      headers: { ...page, cookie, ...(type !== undefined && { 'content-type': type }) },
      ...(payload !== undefined && { payload })
    })
    t.equal(response.statusCode, status, `${type}, ${payload?.length} bytes`)
    t.match(response.body, code)
    t.notOk(response.headers['set-cookie'])
  }
  t.equal(provider.count('token'), 0)
  const response = await app.inject({
    method: 'POST',
    url: '/auth/callback',
    headers: { ...page, cookie, 'content-type': `${form}; charset=iso-8859-1` },
    payload: fields.toString()
  })
  t.equal(response.headers.location, `${BASE_URL}/me`, 'a charset is no matter')
})

// The token request and its response

t.test('S23 the token request repeats the redirect_uri, has the verifier, and is sent once', async (t) => {
  const { provider, browser } = await startApp(t)
  const callback = await untilCallback(browser)
  await browser.goto(callback.href)
  const request = provider.requests.find(({ endpoint }) => endpoint === 'token')
  const { code_verifier: verifier, ...body } = request?.body ?? {}
  t.same(body, { grant_type: 'authorization_code', code: callback.searchParams.get('code'), redirect_uri: CALLBACK })
  t.match(verifier, /^[\w-]{43}$/)
  t.equal(request?.method, 'POST')
  t.same(request?.query, {})
  t.match(request?.headers.authorization, /^Basic /)

  for (const name of [
    'token-500', 'token-503', 'token-429', 'token-400', 'token-html', 'token-cut', 'token-reset', 'token-lost',
    'token-redirect', 'authorization-response-other-code'
  ] as const) {
    const tried = await attempt(t, provider, faults[name])
    t.equal(provider.count('token'), 1, `one attempt in spite of ${name}`)
    await assertAnonymous(t, tried.browser)
  }
})

const response = (change: (answer: Claims) => void): Fault => ({ on: 'token', tokenResponse: change })
const member = (name: string, value: unknown): Fault => response((answer) => { answer[name] = value })

t.test('S24 an incomplete or unknown token response is refused', async (t) => {
  const provider = await startedProvider(t)
  const bad: Record<string, Fault> = {
    'no access_token': faults['token-response-without-access-token'],
    'no token_type': faults['token-response-without-token-type'],
    'no id_token': faults['token-response-without-id-token'],
    'unknown token_type': faults['token-response-unknown-token-type'],
    'token_type DPoP': member('token_type', 'DPoP'),
    'token_type N_A': member('token_type', 'N_A'),
    'token_type empty': member('token_type', ''),
    'token_type a list': member('token_type', ['Bearer']),
    'access_token empty': member('access_token', ''),
    'access_token a number': member('access_token', 42),
    'access_token null': member('access_token', null),
    'id_token a number': member('id_token', 42),
    'id_token null': member('id_token', null),
    'id_token empty': member('id_token', ''),
    'id_token no JWT': faults['token-response-id-token-garbage'],
    'id_token a list': response((answer) => { answer['id_token'] = [answer['id_token']] }),
    'expires_in no number': member('expires_in', 'soon'),
    'expires_in negative': member('expires_in', -1),
    'refresh_token a number': member('refresh_token', 42),
    'refresh_token empty': member('refresh_token', ''),
    'scope a number': member('scope', 7),
    'scope a list of numbers': member('scope', [7])
  }
  for (const [what, fault] of Object.entries(bad)) {
    await t.test(what, async (t) => {
      const tried = await attempt(t, provider, fault)
      await assertRefused(t, tried, 502, 'FST_OIDC_PROVIDER_RESPONSE')
      t.equal(provider.count('token'), 1)
    })
  }
})

t.test('S24 C54 C56 an unusual but correct token response is accepted', async (t) => {
  const provider = await startedProvider(t)
  const good: Record<string, [fault: Fault, expiresIn: number | undefined]> = {
    'C54 token_type in other capitals': [faults['token-type-case-insensitivity'], 3600],
    'C56 no expires_in': [faults['token-endpoint-response-without-expires_in'], undefined],
    'expires_in as text': [faults['token-response-expires-in-string'], 3600],
    'expires_in with a fraction': [member('expires_in', 1799.9), 1799],
    'expires_in of a century': [member('expires_in', 3_155_760_000), 31_536_000],
    'unknown members': [
      response((answer) => {
        Object.assign(
          answer,
          JSON.parse('{"__proto__":{"access_token":"x"},"not-before-policy":0,"session_state":"x"}')
        )
      }),
      3600
    ]
  }
  for (const [what, [fault, expiresIn]] of Object.entries(good)) {
    await t.test(what, async (t) => {
      const contexts: ClaimsContext[] = []
      stopClock(t)
      const { browser } = await attempt(t, provider, fault, {
        onClaims: (_claims, context) => {
          contexts.push(context)
        }
      })
      await assertLoggedIn(t, browser)
      const tokens = contexts[0]?.tokens
      t.equal(tokens?.token_type, 'bearer')
      if (expiresIn === undefined) t.notOk('expires_at' in (tokens ?? {}))
      else t.equal(tokens?.expires_at, Date.now() / 1000 + expiresIn)
    })
  }
})

t.test('S24 the granted scopes are those of the response, or else the requested ones', async (t) => {
  const provider = await startedProvider(t)
  for (const [scope, expected] of [
    [undefined, ['openid', 'profile', 'email']],
    ['openid  email ', ['openid', 'email']],
    ['', []]
  ] as const) {
    const { page } = await attempt(
      t,
      provider,
      response((answer) => {
        answer['scope'] = scope
      })
    )
    t.same(page.json().session.scopes, expected)
  }
})

t.test('S80 an error of the token endpoint gets the right code, and its text does not reach the user', async (t) => {
  const provider = await startedProvider(t)
  const error = (status: number, error: string, headers = {}): Fault => ({
    on: 'token',
    status,
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ error, error_description: '<b>internal</b>', error_uri: 'https://evil.example' })
  })
  const challenge = { 'www-authenticate': 'Basic realm="internal"' }
  const cases: Array<[what: string, fault: Fault, status: number, code: string]> = [
    ['an unknown code', faults['authorization-response-other-code'], 400, 'FST_OIDC_CODE'],
    ['invalid_grant', error(400, 'invalid_grant'), 400, 'FST_OIDC_CODE'],
    ['access_denied', error(400, 'access_denied'), 400, 'FST_OIDC_CODE'],
    ['invalid_target', error(400, 'invalid_target'), 400, 'FST_OIDC_CODE'],
    ['K9 invalid_client', error(401, 'invalid_client'), 503, 'FST_OIDC_CLIENT_AUTHENTICATION'],
    ['K9 invalid_client with 400', error(400, 'invalid_client'), 503, 'FST_OIDC_CLIENT_AUTHENTICATION'],
    [
      'K9 invalid_client with a challenge', error(401, 'invalid_client', challenge), 503, 'FST_OIDC_CLIENT_AUTHENTICATION'
    ],
    ['K3 invalid_grant with 401 and a challenge', error(401, 'invalid_grant', challenge), 400, 'FST_OIDC_CODE'],
    ['K9 a bare challenge', { ...error(401, ''), headers: challenge, body: 'no' }, 503, 'FST_OIDC_CLIENT_AUTHENTICATION'],
    [
      'K9 a challenge beside an error that is no text', { ...error(401, '', challenge), body: '{"error":7}' }, 503,
      'FST_OIDC_CLIENT_AUTHENTICATION'
    ],
    ['a challenge with 403', { ...error(403, ''), headers: challenge, body: 'no' }, 502, 'FST_OIDC_PROVIDER_RESPONSE'],
    ['K3 unauthorized_client', error(400, 'unauthorized_client'), 503, 'FST_OIDC_CLIENT_AUTHENTICATION'],
    ['unsupported_grant_type', error(400, 'unsupported_grant_type'), 502, 'FST_OIDC_PROVIDER_RESPONSE'],
    ['invented', error(400, '<script>'), 502, 'FST_OIDC_PROVIDER_RESPONSE'],
    ['403', faults['token-403'], 502, 'FST_OIDC_PROVIDER_RESPONSE']
  ]
  for (const [what, fault, status, code] of cases) {
    await t.test(what, async (t) => {
      const tried = await attempt(t, provider, fault)
      await assertRefused(t, tried, status, code)
      t.notMatch(tried.page.text() + JSON.stringify([...tried.page.headers]), /internal|evil|<script/)
    })
  }
})

// The hooks of the application

t.test('V33 a login that fails at any step makes no session', async (t) => {
  const provider = await startedProvider(t)
  const steps: Array<[what: string, faults: Fault | Fault[], options?: Partial<OidcOptions>]> = [
    ['at the provider', faults['authorization-response-error']],
    ['at the token endpoint', faults['token-500']],
    ['at the key set', faults['jwks-500']],
    ['at the ID token', faults['nonce-invalid']],
    ['at UserInfo', faults['userinfo-500'], { userinfo: true }],
    ['at parseClaims', [], { parseClaims: () => { throw new Error('no') } }],
    ['at onClaims', [], { onClaims: async () => { throw new Error('no') } }]
  ]
  for (const [what, applied, options] of steps) {
    await t.test(what, async (t) => {
      const { browser, page } = await attempt(t, provider, applied, options)
      t.ok(page.status >= 400, `status ${page.status}`)
      assertNoSecrets(t, page, provider)
      await assertAnonymous(t, browser)
      t.equal((await browser.goto('/maybe')).json().claims, null)
    })
  }
})

t.test('V33 a login that fails keeps the session before it', async (t) => {
  const { provider, browser } = await startApp(t)
  await browser.goto('/auth/login')
  const session = browser.cookies.get(SESSION_COOKIE)
  provider.fault(faults['nonce-invalid'])
  const page = await browser.goto('/auth/login')
  t.equal(page.status, 403)
  t.equal(browser.cookies.get(SESSION_COOKIE), session)
  await assertLoggedIn(t, browser)
})

t.test('onClaims runs once, after every check and before the session', async (t) => {
  const provider = await startedProvider(t)
  const calls: Array<[IdTokenClaims, ClaimsContext]> = []
  const onClaims: OidcOptions['onClaims'] = async (claims, context) => {
    calls.push([claims, context])
    t.equal(context.request.oidcSession, null)
    const { email } = await context.userinfo()
    return { id: 7, email }
  }
  const { page } = await attempt(t, provider, [], { onClaims })
  t.equal(calls.length, 1)
  const [claims, context] = calls[0] as [IdTokenClaims, ClaimsContext]
  t.match(claims, {
    iss: provider.issuer,
    sub: 'alice',
    aud: 'web',
    nonce: String,
    exp: Number,
    iat: Number,
    at_hash: String
  })
  t.match(context, {
    provider: 'default',
    returnTo: `${BASE_URL}/me`,
    tokens: { access_token: String, token_type: 'bearer', id_token: /^eyJ/ }
  })
  t.equal(context.request.routeOptions.url, '/auth/callback')
  t.same(page.json().user, { id: 7, email: 'alice@example.com' })
  t.equal(provider.count('userinfo'), 1)

  calls.length = 0
  for (const name of [
    'nonce-invalid', 'sig-other-key', 'at-hash-invalid', 'token-500', 'authorization-response-error',
    'invalid-authorization-response-iss'
  ] as const) {
    await attempt(t, provider, faults[name], { onClaims })
  }
  t.equal(calls.length, 0, 'a failed check does not reach it')
})

t.test('K12 onClaims refuses a login by refuse() or an OidcError; other errors are faults, and do not reach the user', async (t) => {
  const provider = await startedProvider(t)
  const secret = 'the database at 10.0.0.1 said no'
  const throwing: Array<[what: string, thrown: unknown, status: number, code: string]> = [
    ['refuse()', refuse(), 403, 'FST_OIDC_CLAIMS'],
    ['refuse() with a detail', refuse(undefined, { detail: secret }), 403, 'FST_OIDC_CLAIMS'],
    ['refuse() with a message', refuse('Your account is locked.', { detail: secret }), 403, 'FST_OIDC_CLAIMS'],
    ['an Error', new Error(secret), 500, 'FST_OIDC_UNEXPECTED'],
    ['a bug', new TypeError(secret), 500, 'FST_OIDC_UNEXPECTED'],
    ['text', secret, 500, 'FST_OIDC_UNEXPECTED'],
    ['undefined', undefined, 500, 'FST_OIDC_UNEXPECTED'],
    ['null', null, 500, 'FST_OIDC_UNEXPECTED'],
    ['an outage', Object.assign(new Error(secret), { statusCode: 503 }), 503, 'FST_OIDC_UNEXPECTED'],
    ['an outage, as status', Object.assign(new Error(secret), { status: 502 }), 502, 'FST_OIDC_UNEXPECTED'],
    ['404 of a database', Object.assign(new Error(secret), { statusCode: 404 }), 500, 'FST_OIDC_UNEXPECTED'],
    ['403 of another service', Object.assign(new Error(secret), { status: 403 }), 500, 'FST_OIDC_UNEXPECTED'],
    ['a status that is none', Object.assign(new Error(secret), { status: 600 }), 500, 'FST_OIDC_UNEXPECTED'],
    [
      'an OidcError',
      new OidcError('FST_OIDC_FORBIDDEN', { message: 'Your account is locked.', detail: secret }),
      403,
      'FST_OIDC_FORBIDDEN'
    ],
    [
      'an OidcError for later',
      new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { retryAfter: 7 }),
      503,
      'FST_OIDC_PROVIDER_UNAVAILABLE'
    ]
  ]
  for (const [what, thrown, status, code] of throwing) {
    await t.test(what, async (t) => {
      const tried = await attempt(t, provider, [], { onClaims: () => { throw thrown } })
      await assertRefused(t, tried, status, code)
      t.notMatch(tried.page.text(), secret)
      if (code === 'FST_OIDC_FORBIDDEN' || what.endsWith('message')) t.match(tried.page.text(), 'Your account is locked.')
      if (status === 503) t.equal(tried.page.headers.get('retry-after'), what === 'an outage' ? '5' : '7')
    })
  }
  await t.test('a value that is not JSON', async (t) => {
    const cycle: Record<string, unknown> = {}
    cycle['self'] = cycle
    for (const user of [cycle, { big: 1n }]) {
      await assertRefused(t, await attempt(t, provider, [], { onClaims: () => user }), 403, 'FST_OIDC_CLAIMS')
    }
  })
  await t.test('no value means no user', async (t) => {
    for (const nothing of [null, undefined]) {
      const { page } = await attempt(t, provider, [], { onClaims: () => nothing })
      t.equal(page.json().user, null)
    }
  })
})

t.test('K12 the log says what a hook has done', async (t) => {
  const cases: Array<[thrown: unknown, entry: object]> = [
    [refuse('alice is not invited'), { level: 30, code: 'FST_OIDC_CLAIMS', detail: 'alice is not invited' }],
    [refuse('Ask your manager.', { detail: 'not on the list' }), {
      level: 30, code: 'FST_OIDC_CLAIMS', msg: 'Ask your manager.', detail: 'not on the list'
    }],
    [new TypeError('x is null'), {
      level: 50,
      code: 'FST_OIDC_UNEXPECTED',
      detail: /^onClaims failed: x is null. To refuse .* throw refuse\(/,
      err: { type: 'TypeError', stack: /callback\.test/ }
    }]
  ]
  for (const [thrown, entry] of cases) {
    const { lines, server } = captureLog()
    const { browser } = await startApp(t, { onClaims: () => { throw thrown } }, {}, server)
    await browser.goto('/me')
    const entries = lines().trim().split('\n').map((line) => JSON.parse(line) as { code?: string })
    t.match(entries.filter(({ code }) => code !== undefined), [entry])
  }
})

t.test('V33 R2 a login whose hook never returns ends, and what it returns later makes no session', async (t) => {
  const provider = await startedProvider(t)
  const gate = createGate()
  const hooks: Array<Partial<OidcOptions>> = [
    { onClaims: async () => { await gate.pass(); return { id: 7 } } },
    { onClaims: async (_claims, { reply }) => { await gate.pass(); await reply.redirect('/welcome') } },
    { onClaims: async () => { await gate.pass(); throw new Error('late') } },
    { parseClaims: async (claims) => { await gate.pass(); return claims } }
  ]
  const { lines, server } = captureLog()
  const tried = await Promise.all(hooks.map(async (hook) => {
    const app = await buildApp(t, optionsFor(provider, { ...hook, hookTimeout: 0.1 }), server)
    const browser = client({ app, baseUrl: BASE_URL })
    return { browser, page: await browser.goto('/auth/login?return_to=/me') }
  }))
  gate.open()
  await nextTurn()
  for (const { browser, page } of tried) {
    t.match([page.status, page.headers.get('retry-after')], [503, '5'])
    t.match(page.text(), /This application is not available at the moment.*FST_OIDC_UNEXPECTED/s)
    await assertAnonymous(t, browser)
    t.equal((await browser.step('/maybe')).json().claims, null)
  }
  t.match(lines(), '"detail":"onClaims failed: it has not ended within 0.1 s, as \\"hookTimeout\\" demands"')
  t.match(lines(), '"detail":"parseClaims failed: it has not ended')
  for (const { browser } of tried.slice(0, 1)) {
    t.equal((await browser.goto('/auth/login?return_to=/me')).json().user.id, 7, 'only this login was affected')
  }
})

t.test('R2 an error is answered although onError never returns', async (t) => {
  const { lines, server } = captureLog()
  const { browser } = await startApp(t, {
    hookTimeout: 0.05, onError: async () => { await new Promise(() => {}) }
  }, {}, server)
  const page = await browser.goto('/auth/callback?state=x')
  t.match([page.status, page.text()], [400, /FST_OIDC_STATE/])
  t.match(lines(), /it has not ended within 0.05 s.*onError failed/)
})

t.test('onClaims may send the reply itself, and then there is no session', async (t) => {
  const provider = await startedProvider(t)
  const { browser, page } = await attempt(t, provider, [], {
    onClaims: async (_claims, { reply }) => {
      await reply.code(402).send({ pay: 'first' })
    }
  })
  t.equal(page.status, 402)
  t.same(page.json(), { pay: 'first' })
  t.equal(page.headers.get('cache-control'), 'no-store')
  await assertAnonymous(t, browser)
  t.ok(isAuthorize(provider, (await browser.step(page.url)).location), 'the login is used up')
})

t.test('onClaims may send the reply itself, and the session before it stays', async (t) => {
  let answers = false
  const ended: string[] = []
  const { browser } = await startApp(t, {
    onClaims: async (_claims, { reply }) => { if (answers) await reply.redirect('/welcome') },
    onLogout: (_session, { reason }) => { ended.push(reason) }
  })
  await browser.goto('/auth/login')
  const session = browser.cookies.get(SESSION_COOKIE)
  answers = true
  const callback = await untilCallback(browser)
  const page = await browser.step(callback.href)
  t.same([page.status, page.location], [302, `${BASE_URL}/welcome`])
  t.equal(browser.cookies.get(SESSION_COOKIE), session)
  await assertLoggedIn(t, browser)
  t.same(ended, [])
})

t.test('C11 S34 the userinfo() of onClaims refuses the claims of another user', async (t) => {
  const provider = await startedProvider(t)
  const tried = await attempt(t, provider, faults['userinfo-invalid-sub'], {
    onClaims: async (_claims, { userinfo }) => {
      await userinfo()
    }
  })
  await assertRefused(t, tried, 403, 'FST_OIDC_USERINFO', 1)
  const caught = await attempt(t, provider, faults['userinfo-invalid-sub'], {
    onClaims: async (_claims, { userinfo }) => ({ caught: await userinfo().catch(({ code }: OidcError) => code) })
  })
  t.same(caught.page.json().user, { caught: 'FST_OIDC_USERINFO' }, 'the application may do without')
})

t.test('parseClaims can change the claims, but not sub and iss', async (t) => {
  const provider = await startedProvider(t)
  const seen: unknown[] = []
  const { page } = await attempt(t, provider, [], {
    parseClaims: async (claims) => ({ iss: 'https://evil.example', sub: 'mallory', shown: `${claims['given_name']}!` }),
    onClaims: (claims) => { seen.push(claims.sub, claims['given_name']) }
  })
  t.same(page.json().claims, { iss: provider.issuer, sub: 'alice', shown: 'Alice!' })
  t.same(seen, ['alice', 'Alice'], 'onClaims sees what the provider sent')

  let asked = false
  const tried = await attempt(t, provider, [], {
    parseClaims: () => {
      throw new TypeError('given_name is missing')
    },
    onClaims: () => {
      asked = true
    }
  })
  await assertRefused(t, tried, 500, 'FST_OIDC_UNEXPECTED')
  t.notMatch(tried.page.text(), 'given_name')
  t.notOk(asked)
})

t.test('userinfo: true adds its claims; those of the ID token win', async (t) => {
  const provider = await startedProvider(t, { claimsInIdToken: false })
  const { page } = await attempt(t, provider, faults['userinfo-overwrites'], { userinfo: true })
  t.match(page.json().claims, {
    iss: provider.issuer,
    sub: 'alice',
    name: 'Alice Doe',
    email: 'alice@example.com',
    roles: ['user']
  })
  t.equal(provider.count('userinfo'), 1)
  t.match(provider.requests.find(({ endpoint }) => endpoint === 'userinfo')?.headers.authorization, /^Bearer /)

  const without = await attempt(t, provider)
  t.notOk('name' in without.page.json().claims)
  t.equal(provider.count('userinfo'), 0)
})

t.test('SameSite=Strict: a page of the application itself leads from the callback to the page of the login', async (t) => {
  const { provider, browser } = await startApp(t, { session: { key: SESSION_KEY, sameSite: 'strict' } })
  const target = '/me?a=1&b=%22%3E%3Cscript%3E'
  const callback = await untilCallback(browser, `/auth/login?return_to=${encodeURIComponent(target)}`)
  const page = await browser.step(callback.href, { from: provider.issuer })
  t.equal(page.status, 200)
  t.match(page.headers.getSetCookie().find((line) => line.startsWith(`${SESSION_COOKIE}=`)), 'SameSite=Strict')
  t.match(page.headers.getSetCookie().find((line) => line.startsWith(LOGIN_COOKIE)), 'SameSite=Lax')
  t.equal(page.form?.action.href, BASE_URL + target)
  t.notMatch(page.text(), '<script>')
  t.equal(page.headers.get('cache-control'), 'no-store')
  t.match(page.headers.get('content-security-policy'), "default-src 'none'")

  const whole = await browser.goto('/auth/login?return_to=/me', { from: 'https://elsewhere.example/' })
  t.same([whole.status, whole.url], [200, `${BASE_URL}/me`])
  t.equal(whole.json().claims.sub, 'alice')
})

for (const [name, options] of [
  ['form_post', { responseMode: 'form_post' }],
  ['SameSite=Strict', { session: { key: SESSION_KEY, sameSite: 'strict' } }]
] as const) {
  t.test(`S36 V9 ${name}: a login ends the session before it, whose cookies the callback does not bring`, async (t) => {
    const clock = stopClock(t)
    const ended: unknown[] = []
    const { app, provider, browser } = await startApp(t, {
      ...options,
      onLogout: ({ id, provider }, { reason }) => {
        ended.push([id, provider, reason])
      }
    })
    const gate = createGate()
    app.get('/slow', { preHandler: app.oidc.required() }, async () => { await gate.pass() })
    const first = await browser.goto('/me')
    const cookie = browser.cookies.header('/')
    clock.advance(400)
    const slow = app.inject({ url: '/slow', headers: { cookie } })
    await gate.reached

    provider.options.approve = () => 'bob'
    browser.cookies.delete(`op_session_${provider.port}`, provider.url)
    const second = await browser.goto('/auth/login?return_to=/me')
    t.equal(second.json().claims.sub, 'bob')
    t.same(ended, [[first.json().session.id, 'default', 'login']])
    t.equal(
      (await app.inject({ url: '/me', headers: { cookie } })).statusCode,
      401,
      'copied cookies of the first are worth nothing'
    )
    gate.open()
    t.equal((await slow).headers['set-cookie'], undefined, 'a late answer does not bring the first person back')
  })
}

t.test('S36 V9 app.oidc.login ends the session before it, also one in the store', async (t) => {
  const { app, browser } = await startApp(t, {
    responseMode: 'form_post', store: 'memory:', session: { key: SESSION_KEY, store: true }
  })
  app.get('/log-in', async (request, reply) => await app.oidc.login(request, reply, { returnTo: '/me' }))
  t.equal((await browser.goto('/me')).status, 200)
  const cookie = browser.cookies.header('/')
  t.equal((await browser.goto('/log-in')).status, 200)
  t.equal((await app.oidc.sessions.list({ sub: 'alice' })).length, 1)
  t.equal((await app.inject({ url: '/me', headers: { cookie } })).statusCode, 401)
})

t.test('V33 a reply that onClaims sends replaces the login, also when another hook delays it', async (t) => {
  const answers = {
    'without await': (reply: { code: (n: number) => { send: (b: string) => unknown } }) => {
      reply.code(403).send('blocked')
    },
    returned: (reply: { code: (n: number) => { send: (b: string) => unknown } }) => reply.code(403).send('blocked')
  }
  for (const [name, answer] of Object.entries(answers)) {
    const { app, browser } = await startApp(t, {
      onClaims: async (_claims, { reply }) => {
        await nextTurn()
        return answer(reply as never) as never
      }
    })
    app.addHook('onSend', async (_request, _reply, payload) => {
      await nextTurn()
      return payload
    })
    const page = await browser.goto('/me')
    t.equal(page.status, 403, name)
    t.equal(page.text(), 'blocked')
    t.equal(browser.cookies.get('__Host-oidc'), undefined)
    t.equal(
      (await app.inject({ url: '/me', headers: { cookie: browser.cookies.header(BASE_URL) ?? '' } })).statusCode,
      401
    )
  }
})

t.test('S29 S34 auth_time, acr and sid come from the ID token, not from UserInfo', async (t) => {
  const { app, browser, provider } = await startApp(t, { userinfo: true })
  provider.fault({
    on: 'userinfo',
    userinfo: (claims) => ({ ...claims, auth_time: '1700000000', acr: 'gold', sid: 'forged', department: 'sales' })
  })
  provider.fault({
    on: 'token',
    idToken: (claims) => ({ ...claims, auth_time: undefined, acr: undefined, sid: undefined })
  })
  app.get('/recent', { preHandler: app.oidc.required({ maxAge: 60 }) }, async () => 'recent')
  const me = (await browser.goto('/me')).json() as { claims: Record<string, unknown>, session: Record<string, unknown> }
  t.match(me.claims, { department: 'sales' })
  t.notOk('authTime' in me.session || 'acr' in me.session || 'sid' in me.session)
  t.equal((await browser.fetch('/recent')).status, 401)
})

// Parameters of callbacks

t.test('K6 only parameters that are read are checked', async (t) => {
  const { browser } = await startApp(t)
  for (const extra of [
    `&unknown=${'x'.repeat(6000)}`, '&unknown=1&unknown=2', '&unknown=%E9', '&%E9=1', '&unknown=', '&unknown', '&=',
    '&unknown=%00', `&session_state=${'s'.repeat(5000)}`, '&a=1'.repeat(200)
  ]) {
    const callback = await untilCallback(browser)
    const page = await browser.goto(`${CALLBACK}${callback.search}${extra}`)
    t.same([page.status, page.url], [200, `${BASE_URL}/me`], extra.slice(0, 20))
    browser.cookies.clear()
  }
  const first = await untilCallback(browser)
  const page = await browser.goto(`${CALLBACK}?a=%E9&a=2&${first.search.slice(1)}`)
  t.equal(page.url, `${BASE_URL}/me`, 'before the others too')
  for (const query of ['&utm=%E9&utm=2', `&utm=${'x'.repeat(6000)}`]) {
    t.equal((await browser.goto(`/auth/login?return_to=/me${query}`)).url, `${BASE_URL}/me`, 'the same at login')
  }
})

t.test('K6 a code of 16,384 characters passes by form_post, and one of 7,000 by query', async (t) => {
  const lengths: number[] = []
  for (const [responseMode, length] of [['form_post', 16_384], ['query', 7000]] as const) {
    const { app, browser, provider } = await startApp(t, { responseMode })
    // The provider knows only its own code: what matters is the token request.
    const code = 'c'.repeat(length)
    provider.fault({ on: 'authorize', authorizationResponse: (params) => params.set('code', code) })
    const page = await browser.goto('/me')
    t.match(page.text(), 'FST_OIDC_CODE')
    lengths.push(provider.requests.find(({ endpoint }) => endpoint === 'token')?.body['code']?.length ?? 0)
    t.equal((await app.inject('/')).statusCode, 200)
  }
  t.same(lengths, [16_384, 7000])

  const { browser, provider } = await startApp(t, { responseMode: 'form_post' })
  provider.fault({ on: 'authorize', authorizationResponse: (params) => params.set('code', 'c'.repeat(16_385)) })
  const page = await browser.goto('/me')
  await assertRefused(t, { page, browser, provider }, 400, 'FST_OIDC_PARAMETER')
  t.equal(provider.count('token'), 0)
})

t.test('K6 a cancelled login is one, however long and in whatever encoding its description is', async (t) => {
  const { lines, server } = captureLog()
  const { browser, provider } = await startApp(t, {}, {}, server)
  for (const description of ['x'.repeat(6000), 'abgebrochen%2C%20%FCber', 'ab%00', 'キャンセル', '']) {
    const callback = await untilCallback(browser)
    callback.searchParams.delete('code')
    const error = `error=access_denied&error_description=${description}&error_uri=%E9`
    const page = await browser.goto(`${callback.href}&${error}`)
    await assertRefused(t, { page, browser, provider }, 403, 'FST_OIDC_PROVIDER_REFUSED')
  }
  t.match(lines(), 'access_denied: abgebrochen, ?ber')
})

t.test('K6 the error of the provider is in the log also where its state is unknown', async (t) => {
  const { lines, server } = captureLog()
  const { app } = await startApp(t, {}, {}, server)
  for (const state of ['', '&state=unknown', `&state=${'0'.repeat(100)}`]) {
    const url = `/auth/callback?error=invalid_scope&error_description=unknown%0Ascope${state}`
    const response = await app.inject({ url, headers: page })
    t.equal(response.statusCode, 400)
    t.match(response.body, 'FST_OIDC_STATE')
    t.notMatch(response.body, 'invalid_scope')
  }
  t.equal(lines().split('the provider: error invalid_scope: unknown?scope').length - 1, 3)
})
