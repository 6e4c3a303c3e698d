import fc from 'fast-check'
import t from 'tap'
import Fastify from 'fastify'
import oidc from '../../index.ts'
import { parseOptions } from '../../lib/options/settings.ts'
import { joinCookieSpace } from '../../lib/http/cookie-space.ts'
import { createReportUnreadable } from '../../lib/session/report-unreadable.ts'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor, startApp } from '../support/app.ts'
import { anotherApp, captureLog, untilCallback } from '../support/protocol.ts'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { Page, Provider, TestBrowser } from '../../lib/testing/index.ts'

t.setTimeout(120_000) // where other work shares the cores

const BUDGET = 8000
const NAVIGATION = {
  accept: 'text/html', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', 'sec-fetch-site': 'none'
}
const INITIATE = { routes: { initiateLogin: 'initiate-login' } } as const
/** A proxy that removes the path of the application. */
const mounted = (path: string) => ({
  rewriteUrl: ({ url = '' }: { url?: string | undefined }) => url.replace(path, '')
})
/** The cookie names of a registration whose name never changed. */
const named = (name: string) => ({ name, former: () => undefined, current: () => name })
const long = (tab: number, length: number): string => `/me?tab=${tab}&${'x'.repeat(length)}`

async function started (t: Test): Promise<Provider> {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  return provider
}

/** The tabs send their requests before one of them gets an answer. Returns the addresses of the callbacks. */
async function inParallel (browser: TestBrowser, paths: string[]): Promise<string[]> {
  return (await Promise.all(paths.map(async (path) => await untilCallback(browser, path)))).map(({ href }) => href)
}

t.test('K2 nine restored tabs with long addresses stay within the budget, and each one logs in', async (t) => {
  const { provider, browser } = await startApp(t)
  const callbacks = await inParallel(browser, Array.from({ length: 9 }, (_, tab) => long(tab, 1900)))
  t.ok(browser.cookies.bytes() < BUDGET, `${browser.cookies.bytes()} bytes`)
  const pages: Page[] = []
  for (const callback of callbacks) {
    pages.push(await browser.goto(callback))
    t.ok(browser.cookies.bytes() < BUDGET, `${browser.cookies.bytes()} bytes`)
  }
  t.same(pages.map(({ status }) => status), Array(9).fill(200))
  t.ok(pages.every(({ url }) => url.startsWith(`${BASE_URL}/me`)), 'each on its page')
  t.equal(pages.filter(({ url }) => url.length > 1900).length, 1, 'one with its whole address')
  t.equal(provider.count('token'), 9, 'no login began again')
  t.same(browser.cookies.refused, [])
})

t.test('K2 forty tabs: each leads to its own page, whichever comes back first', async (t) => {
  for (const order of [(tabs: string[]) => tabs, (tabs: string[]) => tabs.reverse()]) {
    const { browser } = await startApp(t)
    const callbacks = await inParallel(browser, Array.from({ length: 40 }, (_, tab) => `/me?tab=${tab}`))
    t.ok(browser.cookies.bytes() <= 1000)
    const pages: Page[] = []
    for (const callback of order(callbacks)) pages.push(await browser.goto(callback))
    t.same(pages.map(({ status }) => status), Array(40).fill(200))
    t.equal(new Set(pages.map(({ url }) => url)).size, 40)
  }
})

t.test('K2 a tab that lost its slot begins its login again, once', async (t) => {
  const { app, provider, browser } = await startApp(t)
  app.get('/step-up', async (request, reply) => await app.oidc.login(request, reply, { maxAge: 60, returnTo: '/me?a=1' }))
  const lost = await untilCallback(browser, '/step-up')
  const others: string[] = []
  for (let tab = 0; tab < 12; tab++) others.push((await untilCallback(browser)).href)
  const again = await browser.step(lost.href)
  t.match([again.status, again.location], [302, `${provider.issuer}/authorize?`])
  t.equal(new URL(again.location as string).searchParams.get('max_age'), '60', 'with what it asked for')
  t.equal(provider.count('token'), 0)

  const second = await untilCallback(browser, again.location)
  for (let tab = 0; tab < 12; tab++) await untilCallback(browser)
  const refused = await browser.goto(second.href)
  t.equal(refused.status, 400, 'the second time it is an error')
  t.match(refused.text(), 'FST_OIDC_STATE')

  t.equal((await browser.goto('/me')).status, 200)
  t.equal((await browser.goto(second.href)).url, `${BASE_URL}/me?a=1`, 'with a session it leads to its page')
  t.equal((await browser.goto(others[0] as string)).status, 200)
})

t.test('K2 whatever comes in parallel, the cookies stay within the budget and the newest login works', async (t) => {
  const provider = await started(t)
  const step = fc.oneof(
    fc.record({
      kind: fc.constant('begin' as const),
      tabs: fc.array(fc.constantFrom(0, 50, 400, 1900, 2500), { minLength: 1, maxLength: 15 }),
      order: fc.infiniteStream(fc.nat())
    }),
    fc.record({ kind: fc.constant('initiate' as const), length: fc.constantFrom(0, 1900) }),
    fc.record({ kind: fc.constant('finish' as const), which: fc.nat() }),
    fc.record({ kind: fc.constant('overtaken' as const), length: fc.constantFrom(0, 1900) })
  )
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (steps) => {
    const { app, browser } = await anotherApp(t, provider, INITIATE)
    const starts: string[] = []
    const within = (): void => {
      const bytes = browser.cookies.bytes()
      if (bytes >= BUDGET || browser.cookies.refused.length > 0) throw new Error(`${bytes} bytes`)
    }
    const begin = async (path: string): Promise<void> => {
      starts.push((await browser.step(path)).location as string)
      within()
    }
    for (const step of steps) {
      if (step.kind === 'begin') {
        await Promise.all(step.tabs.map(async (length, tab) => await begin(`/auth/login?return_to=${
          encodeURIComponent(long(tab, length))}`)))
      } else if (step.kind === 'initiate') {
        const form = { iss: provider.issuer, target_link_uri: long(0, step.length) }
        const page = await browser.step('/auth/initiate-login', {
          method: 'POST', body: new URLSearchParams(form), from: 'https://portal.example/'
        })
        starts.push(page.location as string)
        within()
      } else if (step.kind === 'overtaken') {
        // A login begins while another tab, whose session the request does not show yet, comes back.
        const slow = client({ app, baseUrl: BASE_URL })
        const page = await slow.step(`/auth/login?return_to=${encodeURIComponent(long(0, step.length))}`)
        await browser.goto('/auth/login?return_to=/me')
        for (const { name, value } of slow.cookies.list()) browser.cookies.set(name, value)
        starts.push(page.location as string)
        within()
      } else if (starts.length > 0) {
        await browser.goto(starts[step.which % starts.length] as string)
        within()
      }
    }
    await begin('/auth/login?return_to=/me?newest')
    const newest = await browser.goto(starts.at(-1) as string)
    within()
    await app.close()
    return newest.status === 200 && newest.url === `${BASE_URL}/me?newest`
  }), { numRuns: 25 })
})

t.test('K2 initiate-login by a form of another site, from many tabs, beside a session', async (t) => {
  const { app, provider } = await startApp(t, INITIATE)
  provider.fault({ on: 'token', tokenResponse: (answer) => { answer.refresh_token = '~'.repeat(2500) } })
  const browser = await logIn({ app, provider }, 'alice')
  const before = browser.cookies.bytes()
  t.ok(before > 4000)
  const pages: Page[] = []
  for (let tab = 0; tab < 20; tab++) {
    pages.push(await browser.step('/auth/initiate-login', {
      method: 'POST',
      body: { iss: provider.issuer, target_link_uri: long(tab, 1900) },
      from: 'https://portal.example/'
    }))
  }
  t.notOk(pages.some(({ history }) => history.some(({ sent }) => 'cookie' in sent)), 'Lax cookies do not come along')
  t.ok(browser.cookies.bytes() <= before + 1000, `${browser.cookies.bytes()} bytes`)
  for (const { form } of [...pages].reverse()) {
    const page = await browser.goto(form?.action.href as string)
    t.same([page.status, page.url], [200, `${BASE_URL}/me`], 'the address is shortened where nothing else is known')
  }
})

t.test('K2 a deep link of 2,500 characters survives where there is room, else the log says so', async (t) => {
  const { lines, server } = captureLog()
  const { browser, provider } = await startApp(t, {}, {}, server)
  const link = `/me?q=a\\b&${'x'.repeat(2490)}`
  for (const path of [link, `/auth/login?return_to=${encodeURIComponent(link)}`]) {
    browser.cookies.clear()
    const page = await browser.goto(path)
    t.same([page.status, page.url], [200, BASE_URL + link])
    t.notMatch(lines(), 'shorter address')
  }
  t.notOk(browser.cookies.list().some(({ name }) => name.endsWith('-return')), 'a used login leaves a short trace')

  const session = { key: SESSION_KEY, sameSite: 'strict' } as const
  const strict = await anotherApp(t, provider, { session })
  t.equal((await strict.browser.goto(link)).url, BASE_URL + link)
  strict.browser.cookies.clear()
  const fromElsewhere = await strict.browser.goto(link, { from: 'https://elsewhere.example/' })
  t.equal(fromElsewhere.url, `${BASE_URL}/me`, 'the cookies of the session may have been held back')

  browser.cookies.clear()
  await untilCallback(browser, link)
  const kept = browser.cookies.list().filter(({ name }) => name.endsWith('-return'))
  t.equal(kept.length, 1, 'the address of a login that waits')
  await browser.post('/auth/logout')
  t.same(browser.cookies.list(BASE_URL), [], 'a logout removes it')

  browser.cookies.clear()
  const page = await browser.goto(`/me?${'x'.repeat(3500)}`)
  t.same([page.status, page.url], [200, `${BASE_URL}/me`], 'no cookie has more than 4,096 bytes')
  t.match(lines(), /"length":3504.*the login leads to a shorter address/)
  t.equal((await browser.goto(`/${'y'.repeat(3500)}`)).status, 404, 'a public page')
  const path = await browser.goto(`/auth/login?return_to=/${'y'.repeat(3500)}`)
  t.same([path.status, path.url], [200, `${BASE_URL}/`])
  const huge = await browser.step('/auth/login?return_to=/me')
  t.equal(huge.status, 302)
})

t.test('K2 the link to the login page has no address that its parameters would not take', async (t) => {
  const provider = await started(t)
  const one = { issuer: provider.issuer, clientId: 'web', clientSecret: provider.clients[0]?.client_secret as string }
  const app = await buildApp(t, {
    baseUrl: BASE_URL, session: { key: SESSION_KEY }, allowInsecureLoopback: true, providers: { one, two: { ...one, clientId: 'b' } }
  })
  const { headers } = await app.inject({ url: `/me?${'x'.repeat(5000)}`, headers: NAVIGATION })
  t.equal(headers.location, `${BASE_URL}/auth/login?return_to=${encodeURIComponent(`${BASE_URL}/me`)}`)
})

t.test('K2 V27 no login writes to the store before it has come back', async (t) => {
  const { createMemoryStore } = await import('../../lib/store/memory.ts')
  const store = createMemoryStore()
  const writes: string[] = []
  for (const method of ['set', 'create', 'replace', 'take'] as const) {
    const original = store[method] as (...args: unknown[]) => Promise<never>
    store[method] = (async (...args: unknown[]) => {
      writes.push(method)
      return await original.apply(store, args)
    }) as never
  }
  const { browser } = await startApp(t, { store })
  await inParallel(browser, Array.from({ length: 15 }, (_, tab) => long(tab, tab * 150)))
  t.same(writes, [])
})

t.test('K2 two registrations share one budget, also where their names begin alike', async (t) => {
  const provider = await started(t)
  const app: FastifyInstance = Fastify()
  t.teardown(async () => await app.close())
  for (const prefix of ['/a', '/a/b']) {
    await app.register(async (scope) => {
      await scope.register(oidc, optionsFor(provider))
      scope.get('/me', { preHandler: scope.oidc.required() }, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
    }, { prefix })
  }
  const browser = client({ app, baseUrl: BASE_URL })
  const paths = Array.from({ length: 24 }, (_, tab) => `/a${tab % 2 === 0 ? '/b' : ''}/me?${'x'.repeat(2400)}&${tab}`)
  const starts = await Promise.all(paths.map(async (path) => (await browser.step(path)).location as string))
  t.ok(browser.cookies.bytes() < BUDGET, `${browser.cookies.bytes()} bytes`)
  for (const start of starts.slice(-8)) {
    const page = await browser.goto(start)
    t.equal(page.status, 200)
    t.ok(browser.cookies.bytes() < BUDGET, `${browser.cookies.bytes()} bytes`)
  }
  t.equal((await browser.goto('/a/me')).status, 200, 'both have their session')
  await browser.post('/a/auth/logout')
  t.equal((await browser.fetch('/a/me')).status, 401)
  t.equal((await browser.fetch('/a/b/me')).status, 200, 'the logout of one leaves the other alone')

  provider.fault({ on: 'token', tokenResponse: (answer) => { answer.refresh_token = '~'.repeat(3800) } })
  t.equal((await browser.goto('/a/me')).status, 431, 'a session that does not fit beside the other one')
  t.equal((await browser.fetch('/a/b/me')).status, 200)
  t.ok(browser.cookies.bytes() < BUDGET)
})

t.test('K2 R32 the registrations of a host are counted until they close', async (t) => {
  const [one, same, other] = ['n', 'n', 'o'].map((name) => joinCookieSpace('count.example', named(name)))
  t.equal(one?.sharers, 2)
  t.same(one?.read('n=1; n-tokens-0=2; o-silent=1; n-x=3; na=4; x=5').own.map(({ name }) => name),
    ['n', 'n-tokens-0', 'o-silent'])
  other?.leave()
  same?.leave()
  t.equal(one?.sharers, 1)
  one?.leave()
  t.equal(joinCookieSpace('count.example', named('p')).sharers, 1)
  const many = Array.from({ length: 30 }, (_, index) => joinCookieSpace('many.example', named(`n${index}`)))
  t.equal(many[0]?.sharers, 30)
})

t.test('K2 two applications on one host leave each other alone', async (t) => {
  const provider = await started(t)
  const { lines, server } = captureLog()
  const one = await buildApp(t, optionsFor(provider, { baseUrl: `${BASE_URL}/one` }), mounted('/one'))
  const two = await buildApp(t, optionsFor(provider, { baseUrl: `${BASE_URL}/two` }), server)
  const atOne = await logIn({ app: one, provider }, 'alice', `${BASE_URL}/one`)
  t.same(atOne.cookies.list(BASE_URL).map(({ name }) => name).filter((name) => !name.includes('-login-')).sort(),
    ['__Host-oidc.one', '__Host-oidc.one-tokens-0'])
  const cookie = atOne.cookies.header('/one/me')
  t.equal((await two.inject({ url: '/me', headers: { cookie } })).headers['set-cookie'], undefined)
  t.notMatch(lines(), 'no key opens', 'their names differ')

  // Both have the same name, as the operator chose it.
  const foreign = `${cookie.replaceAll('oidc.one', 'oidc.two')}; __Host-oidc.two-login-0=x; __Host-oidc.two-return=x`
  for (let count = 0; count < 3; count++) {
    const me = await two.inject({ url: '/me', headers: { cookie: foreign } })
    t.same([me.statusCode, me.headers['set-cookie']], [401, undefined])
  }
  t.equal(lines().split('no key opens the session cookie').length - 1, 1, 'one log line')
  const logout = await two.inject({
    method: 'POST', url: '/auth/logout', headers: { cookie: foreign, origin: BASE_URL, 'sec-fetch-site': 'same-origin' }
  })
  t.notMatch(logout.headers['set-cookie'], /oidc\.two(?:-tokens-0|-login-0|-return)?=;/)

  for (const port of [3000, 3001]) {
    const baseUrl = `http://localhost:${port}`
    const app = await buildApp(t, optionsFor(provider, { baseUrl }))
    const browser = await logIn({ app, provider }, 'alice', baseUrl)
    t.ok(browser.cookies.list(baseUrl).every(({ name }) => /^(?:oidc-300[01]|op_session)/.test(name)))
    t.ok(browser.cookies.get(`oidc-${port}`))
  }
})

t.test('K2 paths that differ have names that differ', async (t) => {
  const provider = await started(t)
  const nameOf = (path: string): string =>
    parseOptions(optionsFor(provider, { baseUrl: `${BASE_URL}${path}` })).session.cookieName
  const paths = ['', '/a', '/a/b', '/a.b', '/a-b', `/${'long'.repeat(20)}`, `/${'long'.repeat(20)}/x`]
  const names = paths.map(nameOf)
  t.equal(new Set(names).size, paths.length)
  t.equal(names[0], '__Host-oidc')
})

t.test('K2 R32 a cookie that no key opens is logged once, and at most so many are remembered', async (t) => {
  let logged = 0
  const log = { info: () => { logged++ } } as unknown as FastifyBaseLogger
  const report = createReportUnreadable('n', 10)
  for (const value of ['a', 'a', 'b', 'a']) report(`n=${value}`, log)
  t.equal(logged, 2)
  for (let count = 0; count < 10; count++) report(`n=${count}`, log)
  report('n=a', log)
  t.equal(logged, 13, 'the oldest was forgotten')
})

t.test('K2 a browser with cookies of the former default name keeps it', async (t) => {
  const provider = await started(t)
  const baseUrl = `${BASE_URL}/portal`
  const named = { key: SESSION_KEY, cookieName: 'oidc' }
  const before = await buildApp(t, optionsFor(provider, { baseUrl, session: named }), mounted('/portal'))
  const browser = await logIn({ app: before, provider }, 'alice', baseUrl)
  const cookie = browser.cookies.header('/')
  const after = await buildApp(t, optionsFor(provider, { baseUrl }))
  after.get('/token', { preHandler: after.oidc.required() }, async (request) => await after.oidc.accessToken(request))
  t.equal((await after.inject({ url: '/token', headers: { cookie } })).statusCode, 200)
  const logout = await after.inject({
    method: 'POST', url: '/auth/logout', headers: { cookie, origin: BASE_URL, 'sec-fetch-site': 'same-origin' }
  })
  t.match(logout.headers['set-cookie'], [/^__Host-oidc=;/, /^__Host-oidc-tokens-0=;/])
  const foreign = cookie.replace(/__Host-oidc=[^;]+/, '__Host-oidc=x')
  const fresh = await after.inject({ url: '/me', headers: { ...NAVIGATION, cookie: foreign } })
  t.match(fresh.headers['set-cookie'], /^__Host-oidc\.portal-login-/)
})

t.test('K2 R23 a session cookie of the former name that no key opens is foreign, also beside a login of ours', async (t) => {
  const provider = await started(t)
  const app = await buildApp(t, optionsFor(provider, { baseUrl: `${BASE_URL}/portal` }))
  const begin = async (cookie: string, url: string) => {
    const { statusCode, headers } = await app.inject({ url, headers: { ...NAVIGATION, cookie } })
    return { statusCode, setCookies: [headers['set-cookie'] ?? []].flat() }
  }
  const { setCookies } = await begin('', `/auth/login?return_to=${encodeURIComponent(long(1, 300))}`)
  const sealed = /-return=([^;]+)/.exec(setCookies.join())?.[1] as string
  const cookie = `__Host-oidc=x; __Host-oidc=y; __Host-oidc-login-0123456789abcdef=${sealed}`
  const { statusCode, setCookies: others } = await begin(cookie, '/me')
  t.equal(statusCode, 302, 'no error')
  t.ok(others.every((line) => line.startsWith('__Host-oidc.portal-')), 'the foreign cookie stays')
})

t.test('K2 cookies with the name of a former login go when they are too much, also where no key opens them', async (t) => {
  const { app } = await startApp(t)
  const old = (index: number): string => `__Host-oidc-login-${'0'.repeat(15)}${index}=${'x'.repeat(3900)}`
  const begin = async (cookie: string) => (await app.inject({ url: '/auth/login', headers: { ...NAVIGATION, cookie } }))
    .headers['set-cookie']
  t.match(await begin(old(1)), /^__Host-oidc-login-[0-9a-b]=/, 'one fits')
  t.match([await begin([old(1), old(2), old(3)].join('; '))].flat().slice(1), [
    /^__Host-oidc-login-0{15}1=; .*Max-Age=0/, /^__Host-oidc-login-0{15}2=; .*Max-Age=0/
  ])
})

t.test('K2 a silent login begins where there is no room for its page', async (t) => {
  const { lines, server } = captureLog()
  const { app } = await startApp(t, {}, {}, server)
  app.get('/page', { preHandler: app.oidc.optional({ silent: true }) }, async () => 'public')
  const cookie = `__Host-oidc-tokens-0=${'x'.repeat(7000)}`
  const { statusCode, headers } = await app.inject({ url: '/page', headers: { ...NAVIGATION, cookie } })
  t.equal(statusCode, 302)
  const names = [headers['set-cookie'] ?? []].flat().map((line) => line.split('=')[0])
  t.match(names, ['__Host-oidc-silent', /^__Host-oidc-login-/])
  t.notOk(names.includes('__Host-oidc-return'))
  t.notMatch(lines(), 'shorter address', 'the state has the whole address')
})

t.test('K2 cookies that are blocked: one try, an error, and a log line that says so', async (t) => {
  const { lines, server } = captureLog()
  const { app, browser } = await startApp(t, {}, {}, server)
  const callback = await untilCallback(browser)
  const page = await app.inject({ url: callback.pathname + callback.search, headers: NAVIGATION })
  t.equal(page.statusCode, 400)
  t.match(page.body, 'FST_OIDC_STATE')
  t.match(lines(), 'no cookie of the login came')
})
