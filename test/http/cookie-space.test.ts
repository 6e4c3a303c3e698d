import { maxHeaderSize } from 'node:http'
import t from 'tap'
import { cookiesNamed, describeCookies } from '../../lib/http/cookies.ts'
import { joinCookieSpace } from '../../lib/http/cookie-space.ts'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor, startApp } from '../support/app.ts'
import { enlargeTokens } from '../support/enlarge.ts'
import { NAVIGATION } from '../support/navigation.ts'
import { captureLog, untilCallback } from '../support/protocol.ts'
import type { Test } from 'tap'

t.setTimeout(120_000) // where other work shares the cores

/** What a request has beside cookies: the address and other headers. */
const OTHER_HEADERS = 4096
const LIMIT = maxHeaderSize - OTHER_HEADERS
const NGINX = 8192 // bytes of one header
/** The names of a registration whose name never changed. */
const names = (name: string) => ({ name, former: () => undefined, current: () => name })
const cookieOf = (name: string, bytes: number): string => `${name}=${'x'.repeat(bytes - name.length - 3)}`

t.test('K2 the budget is what other cookies of the host leave of the header, and never more than 7,000 bytes', async (t) => {
  const space = joinCookieSpace('budget.example', names('oidc'))
  t.teardown(() => { space.leave() })
  t.equal(space.read(undefined).budget, 7000)
  t.equal(space.read('theme=dark').budget, 7000)
  t.equal(space.read(cookieOf('other', 4000)).budget, 7000)
  const two = `${cookieOf('a', 4000)}; ${cookieOf('b', 4000)}`
  t.equal(space.read(two).budget, LIMIT - 1000 - 8000)
  t.equal(space.read(`${two}; oidc=1; oidc-done=1; oidc-silent=1; oidc-login-0=1`).budget, LIMIT - 1000 - 8000, 'own ones do not count')
  t.notOk(space.read(two).isFull)
  const full = [1, 2, 3, 4].map((name) => cookieOf(`a${name}`, 4000)).join('; ')
  t.equal(space.read(full).budget, 0)
  t.ok(space.read(full).isFull)
  t.equal(space.read(`${full}; ${cookieOf('oidc', 3000)}`).budget, 3128, 'what is there may stay as large as it is, but for a few bytes')
  t.equal(space.read(`${full}; ${cookieOf('oidc', 9000)}`).budget, 7000)
  t.equal(space.read(`${full}; ${cookieOf('oidc-login-0', 90)}`).budget, 0, 'without logins')

  const larger = joinCookieSpace('budget.example', names('two'), 32_768)
  t.teardown(() => { larger.leave() })
  t.equal(larger.read(full).budget, 7000, 'http.maxHeaderSize of the server counts')
  t.notOk(larger.read(full).isFull)
  const small = joinCookieSpace('budget.example', names('three'), 8192)
  t.teardown(() => { small.leave() })
  t.equal(small.read(undefined).budget, 3096)
})

t.test('K2 the largest cookies of a request, for the log', async (t) => {
  const sizes = (header: string): string => describeCookies(cookiesNamed(header, ''))
  const small = ['c', 'd', 'e', 'f'].map((name) => cookieOf(name, 5))
  const header = [cookieOf('a', 50), cookieOf('b', 70), ...small, cookieOf('oidc', 900), '"bad name"=1'].join('; ')
  t.same(sizes(header), 'oidc 900, b 70, a 50, c 5, d 5, 2 more')
  t.same(sizes(''), '')
  t.equal(sizes(cookieOf('n'.repeat(300), 400)).length, 44, 'a long name is cut')
})

/** A browser that has cookies of other software, and a login of a session with tokens of this size. */
async function logInBeside (t: Test, foreign: number[], tokens: number, http = {}): Promise<{
  status: number, text: string, total: number, lines: string, hasIdToken: boolean
}> {
  const identity = await startProvider({ refreshTokens: 'always' })
  t.teardown(async () => await identity.close())
  enlargeTokens(identity, { access_token: tokens / 2, refresh_token: tokens / 2, id_token: 0 })
  const { lines, server } = captureLog()
  const app = await buildApp(t, optionsFor(identity, { timeout: 60 }), { ...server, http } as object)
  app.get('/tokens', async (request) => await app.oidc.accessToken(request))
  const browser = client({ app, baseUrl: BASE_URL })
  for (const [index, bytes] of foreign.entries()) browser.cookies.set(`other${index}`, 'x'.repeat(bytes - 9))
  const page = await browser.goto('/auth/login?return_to=/me')
  const total = browser.cookies.header('/').length
  identity.clearRequests()
  if (page.status === 200) t.equal((await browser.goto('/tokens')).status, 200)
  await browser.post('/auth/logout')
  const end = identity.requests.find(({ endpoint }) => endpoint === 'end_session')
  const hasIdToken = { ...end?.query, ...end?.body }['id_token_hint'] !== undefined
  return { status: page.status, text: page.text(), total, lines: lines(), hasIdToken }
}

t.test('K2 a session leaves room for the header beside cookies of other software', async (t) => {
  const small = await logInBeside(t, [500], 2000)
  t.match(small, { status: 200, hasIdToken: true })
  t.notMatch(small.lines, 'all cookies of this host')

  const beyondNginx = await logInBeside(t, [3800, 1000], 2000)
  t.match(beyondNginx, { status: 200 })
  t.ok(beyondNginx.total > NGINX && beyondNginx.total < LIMIT, `${beyondNginx.total}`)
  t.match(beyondNginx.lines, /"level":40[^\n]*"cookies":"__Host-oidc-tokens-0 \d+, other0 3800, [^\n]*all cookies of this host/)

  const without = await logInBeside(t, [3900, 3500], 1600)
  t.match(without, { status: 200, hasIdToken: false }, 'without the ID token it fits')
  t.ok(without.total <= LIMIT, `${without.total}`)

  const full = await logInBeside(t, [3900, 3900], 3400)
  t.match(full, { status: 431, text: /FST_OIDC_SESSION_TOO_LARGE/ })
  t.match(full.text, 'Your browser has too many cookies for this site.')
  t.match(full.lines, /"level":50[^\n]*"detail":"[^"]*beside 7800 bytes of other software \(other0 3900, other1 3900/)
  t.ok(full.total < LIMIT, `${full.total}`)

  t.match(await logInBeside(t, [3900, 3900], 3400, { maxHeaderSize: 32_768 }), { status: 200 })
})

t.test('K2 where other cookies fill the header, a login takes a slot that the browser has already', async (t) => {
  const { app, browser } = await startApp(t)
  for (let index = 0; index < 3; index++) browser.cookies.set(`other${index}`, 'x'.repeat(4000))
  const before = browser.cookies.header('/').length
  for (let tab = 0; tab < 12; tab++) await untilCallback(browser, `/auth/login?return_to=/me?${tab}&${'x'.repeat(400)}`)
  t.ok(browser.cookies.header('/').length < before + 400, `${browser.cookies.header('/').length - before} bytes`)
  const { headers } = await app.inject({
    url: '/auth/login', headers: { ...NAVIGATION, cookie: browser.cookies.header('/') }
  })
  const names = [headers['set-cookie'] ?? []].flat().map((line) => line.split('=')[0] as string)
  t.ok(names.every((name) => browser.cookies.get(name) !== undefined), 'no new name')
  t.equal((await untilCallback(browser)).pathname, '/auth/callback')
  const page = await browser.goto('/me')
  t.equal(page.status, 431, 'the session does not fit')
})

t.test('K2 a refresh beside full cookies may replace a session by one of the same size', async (t) => {
  const { app, provider } = await startApp(t, { offlineAccess: true, session: { key: SESSION_KEY } })
  app.get('/refresh', async (request) => await app.oidc.accessToken(request, { refresh: true }))
  const browser = await logIn({ app, provider }, 'alice')
  for (let index = 0; index < 3; index++) browser.cookies.set(`other${index}`, 'x'.repeat(4050))
  t.equal((await browser.fetch('/refresh')).status, 200)
  t.equal((await browser.goto('/me')).status, 200)
})
