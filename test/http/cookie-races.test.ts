import t from 'tap'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor, startApp } from '../support/app.ts'
import { enlargeTokens } from '../support/enlarge.ts'
import { captureLog } from '../support/protocol.ts'

t.setTimeout(120_000) // where other work shares the cores

/** With it, browsers and nginx take the Cookie header. */
const BUDGET = 8000
const loginAt = (length: number): string => `/auth/login?return_to=${encodeURIComponent(`/me?${'x'.repeat(length)}`)}`

t.test('K2 cookies of the former default name count as those of the registration', async (t) => {
  const provider = await startProvider({ refreshTokens: 'always' })
  t.teardown(async () => await provider.close())
  enlargeTokens(provider, { access_token: 4000, refresh_token: 0, id_token: 0 })
  const baseUrl = `${BASE_URL}/portal`
  const mounted = { rewriteUrl: ({ url = '' }: { url?: string | undefined }) => url.replace('/portal', '') }
  const options = { baseUrl, offlineAccess: true, timeout: 60 }
  const before = await buildApp(t, optionsFor(provider, {
    ...options, session: { key: SESSION_KEY, cookieName: 'oidc' }
  }), mounted)
  const browser = await logIn({ app: before, provider }, 'alice', baseUrl)
  const bytes = browser.cookies.bytes(`${baseUrl}/me`)
  t.ok(bytes > 5500, `${bytes} bytes`)
  await before.close()

  const { lines, server } = captureLog()
  const after = await buildApp(t, optionsFor(provider, options), { ...mounted, ...server })
  after.get('/refresh', async (request) => await after.oidc.accessToken(request, { refresh: true }))
  const moved = client({ app: after, baseUrl })
  for (const { name, value } of browser.cookies.list(baseUrl)) moved.cookies.set(name, value)
  t.equal((await moved.fetch(`${baseUrl}/refresh`)).status, 200, 'a session of this name may stay as large as it is')
  t.notMatch(lines(), 'FST_OIDC_SESSION_TOO_LARGE')

  await moved.step(`${baseUrl}${loginAt(1900)}`)
  const together = moved.cookies.bytes(`${baseUrl}/me`)
  t.ok(together < BUDGET, `${together} bytes with a login`)
  t.match(lines(), 'the login leads to a shorter address')

  await moved.goto(`${baseUrl}${loginAt(0)}`)
  const anew = moved.cookies.list(baseUrl).map(({ name }) => name)
  t.ok(anew.includes('__Host-oidc'), 'another login keeps the name')
  t.ok(moved.cookies.bytes(`${baseUrl}/me`) < BUDGET)
})

t.test('K2 a long address and a large session that arrive in parallel stay within the budget', async (t) => {
  const { app, provider, browser } = await startApp(t, { timeout: 60 }, { refreshTokens: 'always' })
  enlargeTokens(provider, { access_token: 2500, refresh_token: 1000, id_token: 0 })
  const within = (): void => { t.ok(browser.cookies.bytes() < BUDGET, `${browser.cookies.bytes()} bytes`) }
  const receive = (from: ReturnType<typeof client>): void => {
    for (const { name, value } of from.cookies.list(BASE_URL)) browser.cookies.set(name, value)
  }

  // Both requests were sent without the cookies of the other. The address arrives first, then the session.
  const early = await browser.step(loginAt(0))
  const other = client({ app, baseUrl: BASE_URL })
  const long = await other.step(loginAt(1900))
  const toCallback = await browser.step(early.location as string)
  const callback = new URL(toCallback.location as string)
  const session = await app.inject({
    url: callback.pathname + callback.search,
    headers: { cookie: browser.cookies.header('/'), 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }
  })
  receive(other)
  t.ok(browser.cookies.get('__Host-oidc-return'))
  for (const { name, value } of session.cookies) {
    if (value === '') browser.cookies.delete(name)
    else browser.cookies.set(name, value)
  }
  t.ok(browser.cookies.bytes() > 5000, 'a large session')
  within()
  const page = await browser.goto(long.location as string)
  t.same([page.status, page.url], [200, `${BASE_URL}/me`], 'the other login works, without its query')
  within()

  // The session arrives first. The login was sent while another one waited.
  browser.cookies.clear()
  const first = await browser.step(loginAt(0))
  receive(browser)
  const slow = client({ app, baseUrl: BASE_URL })
  for (const { name, value } of browser.cookies.list(BASE_URL)) slow.cookies.set(name, value)
  const late = await slow.step(loginAt(1900))
  t.equal((await browser.goto(first.location as string)).status, 200)
  receive(slow)
  within()
  t.equal((await browser.goto(late.location as string)).status, 200)

  // One login alone keeps its address.
  browser.cookies.clear()
  t.equal((await browser.goto(`/me?${'x'.repeat(2500)}`)).url.length, BASE_URL.length + 4 + 2500)
})
