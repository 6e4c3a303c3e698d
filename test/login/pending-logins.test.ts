import { createHash } from 'node:crypto'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { createCookieNames } from '../../lib/http/cookie-names.ts'
import { joinCookieSpace } from '../../lib/http/cookie-space.ts'
import { createPendingLogins } from '../../lib/login/pending-logins.ts'
import { parseOptions } from '../../lib/options/settings.ts'
import { createSeen } from '../../lib/store/seen.ts'
import { createProviders } from '../../lib/provider/providers.ts'
import { sessionCookie } from '../../lib/testing/index.ts'
import { createSmallBox } from '../../lib/util/small-box.ts'
import { BASE_URL, SESSION_KEY, startApp, stopClock, silentLog } from '../support/app.ts'
import { until } from '../support/until.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Provider as OpenIdProvider } from '../../lib/provider/provider.ts'
import type { Sealer } from '../../lib/sealer.ts'

t.setTimeout(120_000) // where other work shares the cores

const PAGE = { accept: 'text/html', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }

t.test('R36 V25 a login among 600 foreign cookies removes at most 40 of them', async (t) => {
  const { app } = await startApp(t)
  const cookie = Array.from({ length: 600 }, (_, index) => `__Host-oidc-login-${index}=x`).join('; ')
  const response = await app.inject({ url: '/auth/login', headers: { cookie } })
  t.equal(response.statusCode, 302)
  t.equal([response.headers['set-cookie']].flat().length, 41)
})

t.test(
  'V27 S5 forty tabs that begin at the same time leave room in the Cookie header, and a later login succeeds',
  async (t) => {
    const { browser } = await startApp(t)
    await Promise.all(Array.from({ length: 40 }, async () => await browser.step('/me')))
    t.equal(browser.cookies.list(BASE_URL).length, 12)
    t.ok(browser.cookies.bytes(BASE_URL) <= 1000, `${browser.cookies.bytes(BASE_URL)} bytes`)
    t.equal((await browser.goto('/me')).status, 200)
    t.ok(browser.cookies.bytes(BASE_URL) < 8000, `${browser.cookies.bytes(BASE_URL)} bytes`)
  }
)

/** Seals nothing: a hundred thousand logins would take too long. */
function createOpenSealer (): Sealer & { cookie: string, content: unknown } {
  const sealer = {
    cookie: '',
    content: undefined as unknown,
    seal (_purpose: string, content: unknown) { sealer.content = content; return 'sealed.x' },
    open: () => ({ content: sealer.content, rotated: false }),
    sealBytes: () => '',
    openBytes: () => null,
    small: createSmallBox([]),
    digests: (text: string) => [createHash('sha256').update(text).digest()],
    setCookie (name: string, value: string) { sealer.cookie = `${name}=${value}`; return '' }
  }
  return sealer
}

t.test('R32 a used login is remembered until it expires, and at most 100,000 are', async (t) => {
  const clock = stopClock(t)
  const settings = parseOptions({
    issuer: 'https://provider.test',
    clientId: 'web',
    baseUrl: BASE_URL,
    session: { key: SESSION_KEY }
  })
  const sealer = createOpenSealer()
  const space = joinCookieSpace('app.example.com', createCookieNames(settings, sealer))
  t.teardown(() => space.leave())
  const pending = createPendingLogins(settings, { sealer, taken: createSeen(undefined), space })
  const provider = createProviders(settings, silentLog).all()[0] as OpenIdProvider
  const reply = { header () {} } as unknown as FastifyReply
  const begin = () => {
    const request = { method: 'GET', headers: {} } as FastifyRequest
    const content = { provider: provider.id, returnTo: `${BASE_URL}/`, silent: false, restarted: false }
    const login = pending.begin(request, content)
    const sealed = sealer.content
    pending.save(request, reply, provider, login)
    return { state: login.state, cookie: sealer.cookie, content: sealed }
  }
  const take = async ({ state, cookie, content }: ReturnType<typeof begin>): Promise<string> => {
    sealer.content = content
    return (await pending.take({ headers: { cookie } } as FastifyRequest, reply, provider, state)).status
  }
  const first = begin()
  const second = begin()
  t.same(
    [await take(first), await take(first), await take(second), await take(second)],
    ['fresh', 'over', 'fresh', 'over']
  )
  for (let count = 0; count < 100_000 - 2; count++) await take(begin())
  t.equal(await take(first), 'over', 'a hundred thousand')
  const last = begin()
  t.equal(await take(last), 'fresh')
  t.equal(
    await take(first),
    'fresh',
    'past the limit the oldest is forgotten; its code is used up at the provider'
  )
  t.equal(await take(last), 'over')
  clock.advance(601)
  t.equal(await take(last), 'over', 'after its time the login itself has expired')
  t.equal(await take(begin()), 'fresh')
})

t.test('R32 what is remembered of a login or a session does not keep the request that it came with', async (t) => {
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc') as () => void
  const { app, provider } = await startApp(t)
  const requests: Array<WeakRef<object>> = []
  app.addHook('onRequest', async (request) => { requests.push(new WeakRef(request), new WeakRef(request.raw)) })
  for (let count = 0; count < 50; count++) {
    const { headers, cookies } = await app.inject({ url: '/auth/login', headers: PAGE })
    const state = new URL(headers.location as string).searchParams.get('state') as string
    const cookie = cookies.map(({ name, value }) => `${name}=${value}`).join('; ')
    const url = `/auth/callback?error=x&state=${state}&iss=${provider.issuer}`
    t.match((await app.inject({ url, headers: { ...PAGE, cookie } })).body, /FST_OIDC_PROVIDER_REFUSED/)
    const session = { url: '/me', headers: { cookie: sessionCookie(app) } }
    t.same([(await app.inject(session)).statusCode, (await app.inject(session)).statusCode], [200, 200])
  }
  t.equal(requests.length, 50 * 2 * 4)
  await until(() => {
    collectGarbage()
    return requests.filter((request) => request.deref() !== undefined).length <= 8 // the last round may be in use
  })
  t.pass('the garbage collector took the requests')
})
