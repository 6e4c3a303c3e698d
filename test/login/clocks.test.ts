import t from 'tap'
import { createEndedSessions } from '../../lib/session/ended-sessions.ts'
import { createReportEarly } from '../../lib/session/report-early.ts'
import { startClock } from '../../lib/testing/clock.ts'
import { client, sessionCookie, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor, startApp, stopClock } from '../support/app.ts'
import { modes } from '../support/modes.ts'
import { NAVIGATION } from '../support/navigation.ts'
import { SESSION_COOKIE, anotherApp, captureLog, loginCookies, untilCallback } from '../support/protocol.ts'
import { twoClocks } from '../support/two-clocks.ts'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { Session } from '../../lib/session/session.ts'
import type { Provider } from '../../lib/testing/index.ts'

t.setTimeout(120_000) // where other work shares the cores

for (const ahead of [90, -90]) {
  t.test(`K1 the clock of the provider is 90 s ${ahead > 0 ? 'ahead' : 'behind'}`, async (t) => {
    const { lines, server } = captureLog()
    const { browser, provider } = await startApp(t, { timeout: 60 }, {}, server)
    const moved = (time: unknown): number => Number(time) + ahead
    provider.fault({
      on: 'token',
      idToken: ({ iat, exp, auth_time: time, ...claims }) => ({
        ...claims, iat: moved(iat), exp: moved(exp), auth_time: moved(time)
      })
    })
    const page = await browser.goto('/me')
    t.equal(provider.count('authorize'), 1)
    if (ahead < 0) return t.equal(page.status, 200)
    t.match([page.status, page.text()], [403, /FST_OIDC_ID_TOKEN[^]*Log in again/])
    t.match(lines(), /"code":"FST_OIDC_ID_TOKEN","detail":"[^"]*iat/)
    const tolerant = await anotherApp(t, provider, { timeout: 60, clockTolerance: 120 })
    t.equal((await tolerant.browser.goto('/me')).status, 200, 'with clockTolerance')
  })
}

/** The second process, whose clock is off, has the paths. The provider has the clock of the process that calls. */
const cases: Array<[off: number, paths: RegExp, status: number, code?: string]> = [
  [90, /^\/me/, 200],
  [90, /^\/auth\/callback/, 400, 'FST_OIDC_LOGIN_LOST'],
  [90, /^\/auth\//, 400, 'FST_OIDC_LOGIN_LOST'],
  [-90, /^\/me/, 400, 'FST_OIDC_LOGIN_LOST'],
  [-90, /^\/auth\/callback/, 403, 'FST_OIDC_ID_TOKEN'],
  [-90, /^\/auth\//, 403, 'FST_OIDC_ID_TOKEN']
]

for (const [off, paths, status, code] of cases) {
  t.test(`K1 a process whose clock is off by ${off} s has ${paths.source}: ${code ?? 'a login'}`, async (t) => {
    const clock = startClock()
    t.teardown(() => clock.restore())
    const { lines, server } = captureLog()
    const provider = await startProvider({ codeTtl: 300 })
    t.teardown(async () => await provider.close())
    const build = async (): Promise<FastifyInstance> => await buildApp(t, optionsFor(provider, { timeout: 60 }), server)
    const app = twoClocks([await build(), await build()], paths, clock, off)
    const page = await client({ app, baseUrl: BASE_URL }).goto('/me')
    t.equal(page.status, status)
    t.ok(provider.count('authorize') <= 2, 'no loop')
    if (code === undefined) return
    t.match(page.text(), new RegExp(`${code}[^]*Log in again`))
    t.notMatch(page.text(), /cookie/i, 'the browser is not to blame')
    t.match(lines(), code === 'FST_OIDC_LOGIN_LOST' ? 'the clocks of two processes differ' : /"detail":"[^"]*auth_time/)
  })
}

const HOUR = 3600
const DAY = 24 * HOUR

/** The logouts of a user that do not name a session. */
const logouts: Array<[name: string, end: (app: FastifyInstance, provider: Provider) => Promise<unknown>]> = [
  ['a logout token', async (app, provider) => {
    return await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, { app, sub: 'alice' })
  }],
  ['revoke({ sub })', async (app) => await app.oidc.sessions.revoke({ sub: 'alice' })],
  ['revoke({ provider })', async (app) => await app.oidc.sessions.revoke({ provider: 'default' })]
]

async function status (app: FastifyInstance, cookie: string): Promise<number> {
  return (await app.inject({ url: '/me', headers: { cookie } })).statusCode
}

for (const { name, shared, options } of modes) {
  t.test(`R10 ${name}: a clock that is set back lets no session go on, and no user is locked out`, async (t) => {
    const clock = stopClock(t)
    const own = options()
    const { app, provider } = await startApp(t, own)
    const another = await buildApp(t, optionsFor(provider, own))
    const begin = async (): Promise<string> => (await logIn({ app, provider }, 'alice')).cookies.header(BASE_URL)
    const ended: string[] = []
    for (const [how, end] of logouts) {
      const cookie = await begin()
      t.equal(await status(app, cookie), 200, `${how}: a user who was logged out logs in`)
      t.equal(await status(another, cookie), 200, `${how}: at another process`)
      clock.advance(-30)
      t.equal(await status(app, cookie), 200, `${how}: half a minute does not matter`)
      await end(app, provider)
      ended.push(cookie)
      if (shared) t.equal(await status(another, cookie), 401, `${how}: the logout holds in all processes`)
    }
    const last = await begin()
    clock.advance(-HOUR)
    await app.oidc.sessions.revoke({ sub: 'alice' })
    const now = await begin()
    t.equal(await status(app, now), 200, 'the user logs in while the clock is behind')
    for (const seconds of [0, 90, HOUR, HOUR]) {
      clock.advance(seconds)
      for (const cookie of [...ended, last]) t.equal(await status(app, cookie), 401, `after ${seconds} s`)
    }
    await app.oidc.sessions.revoke({ sub: 'alice' })
    t.equal(await status(app, now), 401, 'the next logout is after that login')
    clock.advance(-HOUR)
    const again = await begin()
    const late = { iat: Math.floor(Date.now() / 1000) - 60, exp: undefined }
    await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, { app, sub: 'alice', overrides: late })
    t.equal(await status(app, again), 401, 'a late logout token ends it: which of them was first is not known')
    t.equal(await status(app, sessionCookie(app)), 200, 'a cookie of the test kit is after it')
  })

  t.test(`R10 ${name}: a clock that is a day ahead for a while forgets no logout`, async (t) => {
    const clock = stopClock(t)
    const { app, provider } = await startApp(t, options())
    const browser = await logIn({ app, provider }, 'alice')
    const cookie = browser.cookies.header(BASE_URL)
    const bystander = (await logIn({ app, provider }, 'bob')).cookies.header(BASE_URL)
    await browser.post('/auth/logout')
    clock.advance(DAY)
    const ahead = (await logIn({ app, provider }, 'carol')).cookies.header(BASE_URL)
    for (const sub of ['alice', 'dave']) await app.oidc.sessions.revoke({ sub })
    clock.advance(-DAY)
    t.equal(await status(app, cookie), 401, 'the session has ended')
    t.equal(await status(app, bystander), 200, 'others go on')
    const alice = (await logIn({ app, provider }, 'alice')).cookies.header(BASE_URL)
    t.equal(await status(app, alice), 200, 'a logout from the future locks nobody out')
    t.equal(await status(app, ahead), 401, 'a session from the future does not count')
    await app.oidc.sessions.revoke({ sub: 'carol' })
    clock.advance(DAY)
    t.equal(await status(app, ahead), 401, 'and a logout ends it for ever')
  })

  t.test(`R10 ${name}: a session from the future stays in the browser, and ends as any other`, async (t) => {
    const clock = stopClock(t)
    const { lines, server } = captureLog()
    const { app, provider } = await startApp(t, { clockTolerance: 120, ...options() }, {}, server)
    const early = [await logIn({ app, provider }, 'alice'), await logIn({ app, provider }, 'alice')] as const
    const cookies = early.map((browser) => browser.cookies.header(BASE_URL)) as [string, string]
    const times = [0, 61].map((seconds) => {
      clock.advance(-seconds)
      return new Date().toISOString()
    })
    for (let times = 0; times < 2; times++) {
      const answer = await app.inject({ url: '/me', headers: { cookie: cookies[0], ...NAVIGATION } })
      t.equal(answer.statusCode, 302, 'a page begins a login')
      t.notMatch(answer.headers['set-cookie'], new RegExp(`${SESSION_COOKIE}=;`), 'the cookie stays')
    }
    const warnings = lines().split('\n').filter((line) => line.includes('from the future'))
    t.equal(warnings.length, 1, 'one warning for each session')
    t.match(JSON.parse(warnings[0] as string), { level: 40, detail: new RegExp(times.join('.*')) })

    t.equal((await early[0].goto('/auth/login?return_to=/me')).status, 200)
    await early[1].post('/auth/logout', '', { until: () => true })
    t.notOk(early[1].cookies.get(SESSION_COOKIE), 'the user can log out')
    clock.advance(61)
    t.same(await Promise.all(cookies.map(async (cookie) => await status(app, cookie))), [401, 401],
      'a later login and a logout have ended them')
    t.equal((await early[0].fetch('/me')).status, 200)
  })
}

t.test('R10 a login of a process whose clock is up to a minute ahead is completed', async (t) => {
  const clock = stopClock(t)
  const { lines, server } = captureLog()
  // The provider of the test moves with this clock, and its tokens have a tolerance of their own.
  const { app, provider, browser } = await startApp(t, { clockTolerance: 120 }, {}, server)
  const near = await untilCallback(browser)
  clock.advance(-60)
  t.equal((await browser.goto(near.href)).url, `${BASE_URL}/me`)
  t.notMatch(lines(), /from the future/)

  const far = client({ app, baseUrl: BASE_URL })
  const callback = await untilCallback(far)
  const [cookie] = loginCookies(far) as [string]
  const before = far.cookies.get(cookie)
  const times = [0, 61].map((seconds) => {
    clock.advance(-seconds)
    return new Date().toISOString()
  })
  const again = await far.step(callback.href)
  t.match(again.location, /\/authorize\?/, 'it begins again')
  t.equal(far.cookies.get(cookie), before, 'its cookie stays')
  t.equal(loginCookies(far).length, 2)
  const warning = lines().split('\n').find((line) => line.includes('from the future')) as string
  t.match(JSON.parse(warning), { level: 40, detail: new RegExp(times.join('.*')) })
  for (let count = 0; count < 10; count++) await far.step('/auth/login')
  t.equal(far.cookies.get(cookie), before, 'other logins take free slots')
  clock.advance(61)
  t.equal((await far.goto(callback.href)).url, `${BASE_URL}/me`, 'it counts as soon as the clocks agree')
  t.equal(provider.count('token'), 2)
})

t.test('R10 the expiry of a login and of a session has no tolerance', async (t) => {
  const clock = stopClock(t)
  const { app, browser } = await startApp(t, { session: { key: SESSION_KEY, maxAge: 100 } })
  const callback = await untilCallback(browser)
  clock.advance(600)
  t.match((await browser.step(callback.href)).location, /\/authorize\?/, 'the login begins again')
  t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200)
  const cookie = browser.cookies.header(BASE_URL)
  clock.advance(99)
  t.equal((await browser.fetch('/me')).status, 200)
  clock.advance(1)
  t.equal(await status(app, cookie), 401)
})

t.test('R10 what a process remembers of the store does not last longer when the clock is set back', async (t) => {
  const clock = stopClock(t)
  const { options } = modes.at(-1) as typeof modes[number]
  const own = options(undefined, { recheckAfter: 30 })
  const { app, provider } = await startApp(t, own)
  const another = await buildApp(t, optionsFor(provider, own))
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header(BASE_URL)
  t.equal(await status(app, cookie), 200)
  clock.advance(-50)
  await another.oidc.sessions.revoke({ sub: 'alice' })
  t.equal(await status(app, cookie), 200, 'known for half a minute')
  clock.advance(31)
  t.equal(await status(app, cookie), 401)
})

t.test('R32 a bounded number of sessions from the future is remembered', async (t) => {
  let logged = 0
  const log = { warn () { logged++ } } as unknown as FastifyBaseLogger
  const report = createReportEarly(10)
  const session = (id: string): Session => ({ session: { id }, seenAt: Date.now() }) as unknown as Session
  for (const id of ['a', 'a', 'b', 'a']) report(session(id), log)
  t.equal(logged, 2)
  for (let count = 0; count < 10; count++) report(session(String(count)), log)
  report(session('a'), log)
  t.equal(logged, 13, 'the oldest was forgotten')
})

t.test('R32 at most 100,000 sessions are known to be live without asking the store', async (t) => {
  const never = async (): Promise<boolean> => false
  const ended = createEndedSessions({ maxAge: HOUR, recheckAfter: HOUR }, {
    isEnded: never, isMarked: never, end: never, mark: never, timeOf: async () => 0
  })
  const session = (id: string): Session =>
    ({ session: { id, provider: 'default', loginTime: 0 }, claims: { sub: 'alice' }, loginAt: 0 }) as unknown as Session
  for (let count = 0; count < 100_000; count++) await ended.isEnded(session(String(count)))
  t.equal(ended.isEndedHere(session('0')), false)
  await ended.isEnded(session('one more'))
  t.same([ended.isEndedHere(session('0')), ended.isEndedHere(session('1'))], [undefined, false], 'the oldest is forgotten')
})

t.test('R10 the marks of logouts do not stay for ever after a clock was years ahead', async (t) => {
  const clock = stopClock(t)
  const expiries: number[] = []
  const never = async (): Promise<boolean> => false
  const ended = createEndedSessions({ maxAge: HOUR, recheckAfter: 0 }, {
    isEnded: never,
    isMarked: never,
    end: never,
    mark: async (_mark, _at, expiresAt) => { expiries.push(expiresAt - Date.now() / 1000) },
    timeOf: async () => 0
  })
  for (const days of [0, 1, 3650]) {
    clock.advance(days * DAY)
    await ended.loginTime()
    clock.advance(-days * DAY)
    await ended.mark(['ended', 'sub', 'default', 'alice'], await ended.logoutTime())
  }
  t.same(expiries, [0, 0, 1, 1, 30, 30].map((days) => days * DAY + HOUR + 60))
})
