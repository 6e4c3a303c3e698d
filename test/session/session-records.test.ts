import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { client, sessionCookie } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor, startApp, stopClock } from '../support/app.ts'
import { createGate } from '../support/gate.ts'
import { faultyStore, modes } from '../support/modes.ts'
import { captureLog } from '../support/protocol.ts'
import { until } from '../support/until.ts'
import { testKey } from '../support/keys.ts'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions, OidcSession, SessionFilter } from '../../index.ts'
import type { Provider, TestBrowser } from '../../lib/testing/index.ts'
import type { Store } from '../../types/store.ts'

const PAGE = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', accept: 'text/html' }
const OTHER_KEY = testKey(9)
const inStore = { key: SESSION_KEY, store: true, idleTimeout: 28_800 }
const shared = modes.filter((mode) => mode.shared)

interface Kept {
  value: string
  tags: readonly string[]
}

/** A memory store whose entries a test can look at. */
function openStore (inProcess = true): { store: Store, entries: Map<string, Kept> } {
  const store = createMemoryStore()
  const entries = new Map<string, Kept>()
  return {
    entries,
    store: {
      ...store,
      inProcess,
      async set (key, value, options) {
        entries.set(key, { value, tags: options.tags ?? [] })
        await store.set(key, value, options)
      },
      async create (key, value, options) {
        const created = await store.create(key, value, options)
        if (created) entries.set(key, { value, tags: options.tags ?? [] })
        return created
      },
      async replace (key, expected, value, expiresAt) {
        const replaced = await store.replace(key, expected, value, expiresAt)
        if (replaced) entries.set(key, { value, tags: entries.get(key)?.tags ?? [] })
        return replaced
      },
      async take (key) { entries.delete(key); return await store.take(key) }
    }
  }
}

async function status (app: FastifyInstance, cookie: string, url = '/me'): Promise<number> {
  return (await app.inject({ url, headers: { cookie } })).statusCode
}

async function sessionOf (browser: TestBrowser): Promise<OidcSession> {
  return ((await browser.fetch('/me')).json() as { session: OidcSession }).session
}

async function another (
  t: Parameters<typeof buildApp>[0],
  provider: Provider,
  options: Partial<OidcOptions>
): Promise<FastifyInstance> {
  const app = await buildApp(t, optionsFor(provider, options))
  app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
  return app
}

t.test('S40 a public response may be cached, with and without a session', async (t) => {
  const { app, provider } = await startApp(t, {
    store: 'memory:',
    session: inStore,
    bearer: { audience: 'https://api.example.com', resource: `${BASE_URL}/v1/` }
  })
  const browser = await logIn({ app, provider }, 'alice')
  const { headers } = await browser.fetch('/.well-known/oauth-protected-resource/v1')
  t.same([headers.get('cache-control'), headers.get('vary')], ['public, max-age=3600', null])
})

t.test(
  'S36 S37 V11 a session in the store: the cookie is useless without its entry, and the entry is encrypted',
  async (t) => {
    const { store, entries } = openStore()
    const tokens: string[] = []
    const { app, provider } = await startApp(t, { store, session: inStore, offlineAccess: true })
    provider.fault({
      on: 'token',
      tokenResponse: (answer) => {
        tokens.push(String(answer.access_token), String(answer.refresh_token), String(answer.id_token))
      }
    })
    const browser = await logIn({ app, provider }, 'alice')
    t.same(
      browser.cookies
        .list(BASE_URL)
        .map(({ name }) => name)
        .filter((name) => !name.includes('-login-')),
      ['__Host-oidc'],
      'no tokens in cookies'
    )
    const first = await sessionOf(browser)
    const records = (): string[] => [...entries.keys()].filter((key) => key.startsWith('session:'))
    t.equal(records().length, 1)
    const dump = JSON.stringify([...entries])
    for (const secret of [...tokens, first.id, first.sid as string, 'alice', 'openid']) {
      t.notOk(dump.includes(secret), `${secret} is not in the store`)
    }

    const before = records()[0]
    const copy = browser.cookies.header(BASE_URL)
    t.equal((await browser.goto('/auth/login')).status, 200)
    t.equal(records().length, 1, 'a new login ends the session before')
    t.not(records()[0], before)
    t.not((await sessionOf(browser)).id, first.id)
    t.equal(await status(app, copy), 401)

    const second = browser.cookies.header(BASE_URL)
    const page = await browser.post('/auth/logout', '', { until: ({ pathname }) => pathname === '/end-session' })
    t.equal(
      page.form?.action.searchParams.get('id_token_hint'),
      tokens.at(-1),
      'the hint comes from the store'
    )
    t.same(records(), [])
    t.equal(await status(app, second), 401, 'S39 V15')
    entries.clear()
    t.equal(await status(app, sessionCookie(app)), 200)
  }
)

for (const inProcess of [true, false]) {
  t.test(`S38 R25 a changed or exchanged entry of the store is refused, ${inProcess ? 'in' : 'outside of'} the process`, async (t) => {
    const { store, entries } = openStore(inProcess)
    const { app } = await startApp(t, { store, session: inStore })
    app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
    const [alice, bob] = [
      sessionCookie(app),
      sessionCookie(app, { claims: { sub: 'bob' }, tokens: { access_token: 'of bob' } })
    ]
    const [aliceKey, bobKey] = [...entries.keys()] as [string, string]
    const [aliceValue, bobValue] = [entries.get(aliceKey)?.value, entries.get(bobKey)?.value] as [string, string]
    const later = { expiresAt: Date.now() / 1000 + 600 }
    for (const value of [
      bobValue,
      '',
      '{}',
      'x'.repeat(200),
      aliceValue.slice(1),
      aliceValue.slice(0, -1) + (aliceValue.endsWith('A') ? 'B' : 'A')
    ]) {
      await store.set(aliceKey, value, later)
      const answer = await app.inject({ url: '/token', headers: { cookie: alice } })
      t.match([answer.statusCode, answer.json()], [503, { code: 'FST_OIDC_STORE_UNAVAILABLE' }])
    }
    t.equal(
      (await app.inject({ method: 'POST', url: '/auth/logout', headers: { origin: BASE_URL, cookie: alice } }))
        .statusCode,
      503
    )
    await store.set(aliceKey, aliceValue, later)
    t.equal(await status(app, alice, '/token'), 200)
    t.equal(await status(app, bob, '/token'), 200)
    await store.take(bobKey)
    t.same([await status(app, alice), await status(app, bob)], [200, 401], 'what the store has lost is logged out')
  })
}

for (const { name, options, listed } of shared) {
  t.test(`V18 S41 R28 ${name}: a session that has ended stays ended`, async (t) => {
    const store = createMemoryStore()
    const { app, provider } = await startApp(t, { ...options(store), offlineAccess: true }, { accessTokenTtl: 10 })
    const other = await another(t, provider, { ...options(store), offlineAccess: true })
    let go = (): void => {}
    const held = new Promise<void>((resolve) => {
      go = resolve
    })
    app.get('/slow', { preHandler: app.oidc.required() }, async () => {
      await held
      return {}
    })
    app.get('/token', async (request) => {
      const token = await app.oidc.accessToken(request)
      await held
      return { token }
    })
    const browser = await logIn({ app, provider }, 'alice')
    const cookie = browser.cookies.header(BASE_URL)
    const pending = [browser.clone(), browser.clone()].map(async (copy, index) => {
      await copy.fetch(index === 0 ? '/slow' : '/token')
      return copy
    })
    await until(() => provider.count('token') === 2)
    t.equal(
      (await other.inject({ method: 'POST', url: '/auth/logout', headers: { origin: BASE_URL, cookie } })).statusCode,
      303
    )
    go()
    for (const copy of await Promise.all(pending)) t.equal((await copy.fetch('/me')).status, 401)
    t.equal(await status(app, cookie), 401)
    t.equal(await status(other, cookie), 401)
    if (listed) t.same(await app.oidc.sessions.list({ sub: 'alice' }), [])
  })

  t.test(`R28 ${name}: a logout while the provider is asked for new tokens`, async (t) => {
    const store = createMemoryStore()
    const { app, provider } = await startApp(t, { ...options(store), offlineAccess: true }, { accessTokenTtl: 10 })
    const other = await another(t, provider, { ...options(store), offlineAccess: true })
    app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
    const browser = await logIn({ app, provider }, 'alice')
    const cookie = browser.cookies.header(BASE_URL)
    provider.fault({
      on: 'token',
      before: async () => {
        await other.inject({ method: 'POST', url: '/auth/logout', headers: { origin: BASE_URL, cookie } })
      }
    })
    const page = await browser.fetch('/token')
    if (listed) t.match([page.status, page.json()], [401, { code: 'FST_OIDC_LOGIN_REQUIRED' }])
    t.equal((await browser.fetch('/me')).status, 401)
    t.equal(await status(other, cookie), 401)
  })

  t.test(`V12 V34 R18 ${name}: a callback is used once in all processes`, async (t) => {
    const store = createMemoryStore()
    const { app, provider, browser } = await startApp(t, options(store))
    const other = await buildApp(t, optionsFor(provider, options(store)))
    const { location } = await browser.goto('/auth/login', { until: ({ pathname }) => pathname === '/auth/callback' })
    const callback = new URL(location as string)
    const cookie = browser.cookies.header(callback.href)
    provider.clearRequests()
    const answers = await Promise.all(
      Array.from(
        { length: 40 },
        async (_, index) =>
          await (index % 2 === 0 ? app : other).inject({
            url: callback.pathname + callback.search,
            headers: { ...PAGE, cookie }
          })
      )
    )
    t.equal(provider.count('token'), 1, 'one code, one token request')
    const sessions = answers.filter(({ cookies }) =>
      cookies.some(({ name, value }) => name === '__Host-oidc' && value !== '')
    )
    t.equal(sessions.length, 1, 'one session')
    t.same([...new Set(answers.map(({ statusCode }) => statusCode))], [302])
    const attacker = client({ app: other, baseUrl: BASE_URL })
    t.equal((await attacker.goto(callback.href)).status, 400, 'V13 in another browser it is worth nothing')
  })

  t.test(`S58 R27 R31 ${name}: a hundred requests before two processes refresh once`, async (t) => {
    const store = createMemoryStore()
    const { app, provider } = await startApp(t, { ...options(store), offlineAccess: true }, { accessTokenTtl: 10 })
    const apps = [app, await another(t, provider, { ...options(store), offlineAccess: true })]
    app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
    const people = await Promise.all(
      ['alice', 'bob', 'carol'].map(async (sub) => (await logIn({ app, provider }, sub)).cookies.header(BASE_URL))
    )
    provider.options.accessTokenTtl = 3600
    provider.clearRequests()
    const off = provider.fault({ on: 'token', delay: 100 })
    const answers = await Promise.all(
      Array.from({ length: 300 }, async (_, index) => {
        const response = await (apps[index % 2] as FastifyInstance).inject({
          url: '/token',
          headers: { cookie: people[index % 3] as string }
        })
        return `${index % 3} ${response.statusCode} ${response.json().token}`
      })
    )
    t.equal(provider.count('token'), 3, 'once for each person')
    t.equal(new Set(answers).size, 3, 'V16 and each has one token, their own')
    off()
    provider.options.accessTokenTtl = 10
    const cookie = (await logIn({ app, provider }, 'dave')).cookies.header(BASE_URL)
    provider.clearRequests()
    provider.fault({ on: 'token', status: 500 })
    const failed = await Promise.all(
      Array.from(
        { length: 20 },
        async (_, index) =>
          (await (apps[index % 2] as FastifyInstance).inject({ url: '/token', headers: { cookie } })).statusCode
      )
    )
    t.same([...new Set(failed)], [200], 'a failure does not matter while the token is valid')
    t.ok(provider.count('token') <= 3, `${provider.count('token')} token requests`)
    t.equal(await status(app, cookie), 200)
  })

  t.test(`R27 ${name}: a process that refreshes dies, and another takes over when its lease ends`, async (t) => {
    const clock = stopClock(t)
    const { store, calls } = faultyStore()
    const dying: Store = {
      ...store,
      replace: async (key, ...rest) => key.startsWith('refresh:') || (await store.replace(key, ...rest))
    }
    const { app, provider } = await startApp(
      t,
      { ...options(dying), offlineAccess: true, timeout: 5 },
      { accessTokenTtl: 1 }
    )
    const other = await another(t, provider, { ...options(store), offlineAccess: true, timeout: 5 })
    app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
    const cookie = (await logIn({ app, provider }, 'alice')).cookies.header(BASE_URL)
    clock.advance(2)
    const off = provider.fault({ on: 'token', reset: true })
    t.equal(await status(app, cookie, '/token'), 503)
    off()
    provider.clearRequests()
    calls.length = 0
    const waiting = status(other, cookie, '/token')
    await until(() => calls.filter((verb) => verb === 'get').length > 2)
    t.equal(provider.count('token'), 0, 'the other process waits for the lease')
    t.equal(calls.filter((verb) => verb === 'create').length, 1, 'it waits by reading')
    clock.advance(36) // the lease: six timeouts of 5 seconds, and 5
    t.equal(await waiting, 200)
    t.equal(provider.count('token'), 1)
  })

  t.test(`R27 ${name}: the lease of a dead process delays no request whose token is still good`, async (t) => {
    const clock = stopClock(t)
    const store = createMemoryStore()
    // The lease of a process that died while it asked the provider stays.
    const dying: Store = {
      ...store,
      replace: async (key, ...rest) => key.startsWith('refresh:') || (await store.replace(key, ...rest))
    }
    const own = (store: Store): Partial<OidcOptions> => ({ ...options(store), offlineAccess: true, timeout: 5 })
    const { app, provider } = await startApp(t, own(dying))
    app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
    const other = await another(t, provider, own(store))
    const third = await another(t, provider, own(store))
    const cookie = (await logIn({ app, provider }, 'alice')).cookies.header(BASE_URL)
    const tokenFrom = async (app: FastifyInstance): Promise<string> =>
      (await app.inject({ url: '/token', headers: { cookie } })).json().token
    const before = await tokenFrom(app)
    clock.advance(3600 - 20)
    const off = provider.fault({ on: 'token', reset: true })
    t.equal(await tokenFrom(app), before)
    off()
    provider.clearRequests()
    const begun = performance.now()
    t.equal(await tokenFrom(other), before, 'twenty seconds are left')
    t.ok(performance.now() - begun < 1000, `after ${performance.now() - begun} ms`)
    clock.advance(15)
    if (!listed) {
      t.equal(await tokenFrom(other), before, 'five seconds are left')
      const waited = performance.now()
      t.equal(await tokenFrom(other), before)
      t.ok(performance.now() - waited < 1000, 'later requests of the process wait no longer')
    }
    t.equal(provider.count('token'), 0)

    clock.advance(36)
    await until(() => provider.count('token') === 1)
    const fresh = await tokenFrom(other)
    t.not(fresh, before, 'it has taken over')
    clock.advance(61)
    t.equal(await tokenFrom(third), fresh, 'and saved the tokens, whoever waited for them')
    t.equal(provider.count('token'), 1)
  })

  t.test(`R27 S58 ${name}: tokens that a failing store did not take are written when it is back`, async (t) => {
    const clock = stopClock(t)
    const { store, fault } = faultyStore()
    const own = { ...options(store), offlineAccess: true, timeout: 5 }
    const { app, provider } = await startApp(t, own)
    app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
    const others = await Promise.all([1, 2].map(async () => await another(t, provider, own)))
    const [waiting, late] = others as [FastifyInstance, FastifyInstance]
    const cookie = (await logIn({ app, provider }, 'alice')).cookies.header(BASE_URL)
    clock.advance(3600)
    const gate = createGate()
    provider.fault({
      on: 'token',
      times: 1,
      async before () {
        await gate.pass()
        fault.verbs = new Set(['replace', 'set'])
      }
    })
    const first = app.inject({ url: '/token', headers: { cookie } })
    await gate.reached
    const second = waiting.inject({ url: '/token', headers: { cookie } })
    gate.open()
    t.ok([200, 503].includes((await first).statusCode))
    fault.verbs = null
    const { statusCode, body } = await second
    t.equal(statusCode, 200, 'the process that waits gets them')
    clock.advance(61)
    const answer = await late.inject({ url: '/token', headers: { cookie } })
    t.same([answer.statusCode, answer.body], [200, body], 'and so does one that comes later')
    t.equal(provider.requests.filter(({ body }) => body['grant_type'] === 'refresh_token').length, 1)
  })

  t.test(`R25 ${name}: an unavailable store is 503, and does not log users out`, async (t) => {
    const { store, fault } = faultyStore()
    const lines: string[] = []
    const {
      app,
      provider,
      browser: anonymous
    } = await startApp(
      t,
      options(store),
      {},
      {
        logger: {
          level: 'info',
          stream: {
            write: (line: string) => {
              lines.push(line)
            }
          }
        }
      }
    )
    const unhandled: unknown[] = []
    const note = (error: unknown): void => { unhandled.push(error) }
    process.on('unhandledRejection', note)
    t.teardown(() => process.off('unhandledRejection', note))
    const browser = await logIn({ app, provider }, 'alice')
    const cookie = browser.cookies.header(BASE_URL)
    fault.verbs = new Set(['all'])
    for (const url of ['/me', '/maybe', '/auth/session', '/auth/userinfo']) {
      const answer = await app.inject({ url, headers: { cookie } })
      t.match(
        [answer.statusCode, answer.json(), answer.headers['retry-after']],
        [503, { code: 'FST_OIDC_STORE_UNAVAILABLE' }, '5'],
        url
      )
      t.same(answer.headers['set-cookie'], undefined, url)
    }
    const page = await app.inject({ url: '/me', headers: { ...PAGE, cookie } })
    t.match([page.statusCode, page.headers['content-type'], page.body], [503, /html/, /FST_OIDC_STORE_UNAVAILABLE/])
    t.notMatch(page.body, /connection refused/)
    t.match(lines.join(), /the store: connection refused/, 'the log says why')
    const logout = await app.inject({
      method: 'POST',
      url: '/auth/logout',
      headers: { ...PAGE, origin: BASE_URL, cookie }
    })
    t.equal(logout.statusCode, 503, 'the logout fails, and says so')
    t.same(logout.headers['set-cookie'], undefined)
    t.equal(await status(app, cookie, '/'), 200, 'a public page opens')
    t.equal(
      (await app.inject({ url: '/me' })).statusCode,
      401,
      'a request without a cookie is anonymous, without a request to the store'
    )
    const login = await anonymous.goto('/auth/login?return_to=/me')
    t.equal(login.status, 503, 'a login fails')
    t.match(login.text(), /FST_OIDC_STORE_UNAVAILABLE/)

    for (const verbs of [['create', 'set', 'take'], ['take']]) {
      fault.verbs = new Set(verbs)
      const half = await app.inject({
        method: 'POST',
        url: '/auth/logout',
        headers: { ...PAGE, origin: BASE_URL, cookie }
      })
      if (half.statusCode === 303) continue
      t.equal(half.statusCode, 503)
      fault.verbs = null
      t.equal(await status(app, cookie), 200, 'the logout failed, and that is what it said')
    }
    fault.verbs = null
    t.equal((await anonymous.goto('/auth/login?return_to=/me')).status, 200, 'the plugin recovers by itself')
    await nextTurn() // unhandled rejections are reported before it
    t.same(unhandled, [])
  })

  t.test(`R25 ${name}: a store that does not answer is 503 after four seconds`, async (t) => {
    const { store, fault } = faultyStore()
    const { app } = await startApp(t, options(store))
    const cookie = sessionCookie(app)
    fault.verbs = new Set(['all'])
    fault.work = async () => await new Promise(() => {})
    const { setTimeout: start } = globalThis
    t.teardown(() => { globalThis.setTimeout = start })
    let timers = 0
    globalThis.setTimeout = ((work: () => void, wait?: number) => {
      if (wait === 4000) timers++
      return start(work, wait === 4000 ? 0 : wait)
    }) as typeof setTimeout
    t.equal(await status(app, cookie), 503)
    t.ok(timers > 0, 'its timer ended the wait')
    globalThis.setTimeout = start
    fault.verbs = null
    t.equal(await status(app, cookie), 200)
  })

  t.test(`R24 ${name}: a key rotation does not log users out`, async (t) => {
    const { store } = openStore()
    const keyed = (key: string | string[]): Partial<OidcOptions> => ({
      ...options(store, { key }),
      offlineAccess: true
    })
    const { app: before, provider } = await startApp(t, keyed(SESSION_KEY))
    const [during, afterwards] = [
      await another(t, provider, keyed([OTHER_KEY, SESSION_KEY])),
      await another(t, provider, keyed(OTHER_KEY))
    ]
    const [old, unused] = [
      await logIn({ app: before, provider }, 'alice'),
      await logIn({ app: before, provider }, 'alice')
    ]
    const rotated = client({ app: during, baseUrl: BASE_URL })
    for (const { name: cookieName, value } of old.cookies.list(BASE_URL)) {
      rotated.cookies.set(cookieName, value, BASE_URL)
    }
    t.equal((await rotated.fetch('/me')).status, 200, 'both keys are good')
    t.equal((await rotated.fetch('/token')).status, 200)
    const cookie = rotated.cookies.header(BASE_URL)
    t.equal(await status(afterwards, cookie), 200, 'without the old key')
    t.equal(await status(afterwards, cookie, '/token'), 200)
    t.equal(
      await status(afterwards, unused.cookies.header(BASE_URL)),
      401,
      'a user who sent no request meanwhile logs in again'
    )
    t.equal(await status(during, unused.cookies.header(BASE_URL)), 200)
    const rechecking = await another(t, provider, options(store, { key: [OTHER_KEY, SESSION_KEY], recheckAfter: 60 }))
    for (let times = 0; times < 2; times++) {
      t.equal(await status(rechecking, unused.cookies.header(BASE_URL)), 200, 'also while the store is not asked')
    }
  })

  t.test(`${name}: session.recheckAfter saves requests to the store`, async (t) => {
    const clock = stopClock(t)
    const { store, calls } = faultyStore()
    const { app, provider } = await startApp(t, options(store, { recheckAfter: 5 }))
    app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
    const other = await buildApp(t, optionsFor(provider, options(store)))
    const browser = await logIn({ app, provider }, 'alice')
    const cookie = browser.cookies.header(BASE_URL)
    t.equal(await status(app, cookie), 200)
    const before = calls.length
    for (let count = 0; count < 5; count++) t.equal(await status(app, cookie), 200)
    t.equal(calls.length, before)
    t.equal(
      (await other.inject({ method: 'POST', url: '/auth/logout', headers: { origin: BASE_URL, cookie } })).statusCode,
      303
    )
    t.equal(await status(other, cookie), 401)
    t.equal(await status(app, cookie), 200, 'for so long it does not know')
    clock.advance(5)
    t.equal(await status(app, cookie), 401)
    clock.advance(1)
    const again = await logIn({ app, provider }, 'alice')
    t.equal((await again.fetch('/me')).status, 200)
    if (listed) {
      t.equal((await again.fetch('/token')).status, 200)
      t.equal(await other.oidc.sessions.revoke({ sub: 'alice' }), 1)
      t.match(
        (await again.fetch('/token')).json(),
        { code: 'FST_OIDC_LOGIN_REQUIRED' },
        'the tokens are gone with the session'
      )
      return
    }
    t.equal(
      (
        await app.inject({
          method: 'POST',
          url: '/auth/logout',
          headers: { origin: BASE_URL, cookie: again.cookies.header(BASE_URL) }
        })
      ).statusCode,
      303
    )
    t.equal((await again.fetch('/me')).status, 401, 'its own logouts it knows at once')
  })
}

t.test('V29 S65 sessions are listed and revoked by sub, sid, id and provider', async (t) => {
  const store = createMemoryStore()
  const { app, provider } = await startApp(t, { store, session: inStore })
  const other = await buildApp(t, optionsFor(provider, { store, session: inStore }))
  const people = await Promise.all(
    ['alice', 'alice', 'alice', 'bob', 'carol'].map(async (sub, index) =>
      sessionCookie(app, { claims: { sub }, sid: `sid ${index}` })
    )
  )
  const alive = async (): Promise<number[]> =>
    await Promise.all(people.map(async (cookie) => await status(other, cookie)))
  const listed = await app.oidc.sessions.list({ sub: 'alice' })
  t.equal(listed.length, 3)
  t.match(listed[0], {
    sub: 'alice',
    provider: 'default',
    id: /^[\w-]{22}$/,
    sid: /^sid \d$/,
    scopes: ['openid', 'profile', 'email'],
    loginTime: Number,
    expiresAt: Number
  })
  t.notMatch(JSON.stringify(listed), /token/, 'without tokens')
  t.same(await other.oidc.sessions.list({ sub: 'alice', sid: 'sid 3' }), [])
  t.equal((await other.oidc.sessions.list({ provider: 'default' })).length, 5)
  t.same((await other.oidc.sessions.list({ id: listed[0]?.id as string })).map(({ id }) => id), [listed[0]?.id])
  t.same(await other.oidc.sessions.list({ id: listed[0]?.id as string, sub: 'bob' }), [])
  t.same(await other.oidc.sessions.list({ sub: 'alice', provider: 'other' }), [])
  t.same(await other.oidc.sessions.list({ id: 'unknown' }), [])

  t.equal(await app.oidc.sessions.revoke({ sid: 'sid 0' }), 1)
  t.same(await alive(), [401, 200, 200, 200, 200])
  const second = (await app.oidc.sessions.list({ sid: 'sid 1' }))[0]?.id as string
  t.equal(await other.oidc.sessions.revoke({ id: second, sub: 'bob' }), 0, 'not the session of another user')
  t.same(await alive(), [401, 200, 200, 200, 200])
  t.equal(await other.oidc.sessions.revoke({ id: second }), 1)
  t.same(await alive(), [401, 401, 200, 200, 200])
  t.equal(await app.oidc.sessions.revoke({ sub: 'alice', provider: 'other' }), 0)
  t.equal(await app.oidc.sessions.revoke({ sub: 'alice' }), 1)
  t.same(await alive(), [401, 401, 401, 200, 200])
  t.equal(await app.oidc.sessions.revoke({ sub: 'alice' }), 0)
  t.equal(await app.oidc.sessions.revoke({ provider: 'default' }), 2)
  t.same(await alive(), [401, 401, 401, 401, 401])
  for (const [filter, message] of [
    [{}, /sessions are found by/],
    [{ unknown: 'x' }, /"filter.unknown"/],
    [{ provider: 'default', sub: undefined }, /"filter.sub"/],
    [{ sub: '' }, /"filter.sub"/],
    [{ id: 7 }, /"filter.id"/]
  ] as Array<[SessionFilter, RegExp]>) {
    await t.rejects(app.oidc.sessions.revoke(filter), { code: 'FST_OIDC_OPTION', message })
    await t.rejects(app.oidc.sessions.list(filter), { code: 'FST_OIDC_OPTION', message })
  }
})

for (const { name, options, shared, listed } of modes) {
  t.test(`${name}: a revoked session has ended in every process of the store`, async (t) => {
    const clock = stopClock(t)
    const store = createMemoryStore()
    const { app, provider } = await startApp(t, options(store))
    const other = await buildApp(t, optionsFor(provider, options(store)))
    const filters: Array<(session: OidcSession) => SessionFilter> = [
      ({ id }) => ({ id }),
      ({ sid }) => ({ sid: sid as string }),
      () => ({ sub: 'alice' }),
      () => ({ provider: 'default' })
    ]
    for (const filter of filters) {
      const browser = await logIn({ app, provider }, 'alice')
      const cookie = browser.cookies.header(BASE_URL)
      const ended = await app.oidc.sessions.revoke(filter(await sessionOf(browser)))
      t.equal(ended, listed ? 1 : 0)
      t.equal(await status(app, cookie), 401)
      t.equal(await status(other, cookie), shared ? 401 : 200)
      clock.advance(1)
    }
    t.equal(await status(app, (await logIn({ app, provider }, 'alice')).cookies.header(BASE_URL)), 200)
    if (!listed) {
      await t.rejects(app.oidc.sessions.list({ sub: 'alice' }), { code: 'FST_OIDC_OPTION', message: /session\.store/ })
    }
  })
}

t.test('with tenants, a sub needs its provider', async (t) => {
  const { provider } = await startApp(t)
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    resolveProvider: (_request, name) => ({
      name: name ?? 'acme',
      issuer: provider.issuer,
      clientId: 'web',
      clientSecret: provider.clients[0]?.client_secret as string
    })
  })
  const browser = client({ app, baseUrl: BASE_URL })
  t.equal((await browser.goto('/auth/acme/login')).status, 200)
  await t.rejects(app.oidc.sessions.revoke({ sub: 'alice' }), { code: 'FST_OIDC_OPTION', message: /must name the "provider"/ })
  t.equal((await browser.fetch('/me')).status, 200)
  await app.oidc.sessions.revoke({ sub: 'alice', provider: 'acme' })
  t.equal((await browser.fetch('/me')).status, 401)
})

t.test('applications that share a store do not affect one another', async (t) => {
  const store = createMemoryStore()
  const { app, provider } = await startApp(t, { store, session: inStore })
  const neighbour = await buildApp(
    t,
    optionsFor(provider, { store, session: { ...inStore, key: OTHER_KEY }, baseUrl: 'https://other.example.com' })
  )
  const [here, there] = [sessionCookie(app), sessionCookie(neighbour)]
  t.equal(await status(neighbour, here), 401)
  await app.oidc.sessions.revoke({ sub: 'alice' })
  t.same([await status(app, here), await status(neighbour, there)], [401, 200])
  t.equal((await neighbour.oidc.sessions.list({ sub: 'alice' })).length, 1)
})

/** Notes the timers that begin, and returns a function that runs the work of every ten minutes now. */
function notePurge (t: Test): () => void {
  const { setInterval: start } = globalThis
  const timers: Array<{ work: () => void; every: number }> = []
  globalThis.setInterval = ((work: () => void, every: number) => {
    timers.push({ work, every })
    return start(work, every)
  }) as typeof setInterval
  t.teardown(() => { globalThis.setInterval = start })
  return () => {
    const { work } = timers.find(({ every }) => every === 600_000) ?? t.fail('no timer') as never
    work()
  }
}

t.test('R32 the plugin purges the store every ten minutes, and closes it at the end', async (t) => {
  const purge = notePurge(t)
  const lines: string[] = []
  const { store, fault, calls } = faultyStore()
  const { app } = await startApp(
    t,
    { store, session: inStore },
    {},
    {
      logger: {
        level: 'warn',
        stream: {
          write: (line: string) => {
            if (line.includes('store')) lines.push(line)
          }
        }
      }
    }
  )
  purge()
  await until(() => calls.length > 0)
  await nextTurn()
  t.same(calls, ['purge'])
  t.same(lines, [])
  fault.verbs = new Set(['purge'])
  purge()
  await until(() => lines.length > 0)
  t.match(
    lines.map((line) => JSON.parse(line)),
    [
      {
        level: 40,
        code: 'FST_OIDC_STORE_UNAVAILABLE',
        detail: 'the store: connection refused',
        msg: 'the store could not be purged'
      }
    ]
  )
  await app.close()
  t.notOk(calls.includes('close'), 'a store of the application is closed by the application')
})

t.test('what the store warns of is logged once, and so is a purge that did not end', async (t) => {
  const work = notePurge(t)
  const { now: clock } = performance
  let skew = 0
  performance.now = () => clock.call(performance) + skew
  t.teardown(() => { performance.now = clock })
  let warnings = async (): Promise<string[]> => ['an index is missing', 'there is no time limit']
  const store: Store = {
    ...createMemoryStore(),
    warnings: async () => await warnings(),
    async purge ({ limit } = {}) {
      skew += 20_000
      return limit as number
    },
    countExpired: async () => 7
  }
  const lines: string[] = []
  const stream = { write: (line: string) => { if (!line.includes('oopback')) lines.push(line) } }
  const { app } = await startApp(t, { store, session: inStore }, {}, { logger: { level: 'warn', stream } })
  await until(() => lines.length === 2)
  work()
  await until(() => lines.length === 3)
  warnings = async () => ['there is no time limit', 'something else']
  work()
  await until(() => lines.length === 5)
  warnings = async () => { throw new Error('down') }
  work()
  await until(() => lines.length === 7)
  const left = 'the store could not be purged in time: expired entries are left'
  t.match(lines.map((line) => JSON.parse(line)), [
    { msg: 'an index is missing' },
    { msg: 'there is no time limit' },
    { msg: left, removed: 1000, left: 7 },
    { msg: 'something else' },
    { msg: left },
    { msg: 'the store could not be examined', code: 'FST_OIDC_STORE_UNAVAILABLE', detail: 'the store: down' },
    { msg: left }
  ])
  await app.close()
})

t.test('R30 revoke ends and reports a few sessions at a time, and says how far it is', async (t) => {
  const { store, fault, calls } = faultyStore()
  const running = { removals: 0, hooks: 0 }
  const most = { ...running }
  const during = async (kind: keyof typeof running, work: () => Promise<unknown>): Promise<void> => {
    most[kind] = Math.max(most[kind], ++running[kind])
    await work()
    running[kind]--
  }
  const reported = new Set<string>()
  const lines: string[] = []
  const { app } = await startApp(t, {
    store,
    session: inStore,
    onLogout: async ({ id }) => await during('hooks', async () => { await nextTurn(); reported.add(id) })
  }, {}, { logger: { level: 'info', stream: { write: (line: string) => { lines.push(line) } } } })
  for (let index = 0; index < 1100; index++) sessionCookie(app)
  fault.verbs = new Set(['take'])
  fault.work = async () => await during('removals', nextTurn)
  t.equal(await app.oidc.sessions.revoke({ sub: 'alice' }), 1100)
  t.same([most, reported.size], [{ removals: 8, hooks: 8 }, 1100])
  t.equal(calls.filter((verb) => verb === 'take').length, 1100)
  t.match(lines.filter((line) => line.includes('"sessions":')).map((line) => JSON.parse(line)), [
    { level: 30, sessions: 1000, msg: 'sessions are being ended' },
    { level: 30, sessions: 1100, reason: 'revoked' }
  ])
})

t.test('R25 a store that fails during revoke: the sessions that have ended are reported', async (t) => {
  const { store, fault } = faultyStore()
  const reported = new Set<string>()
  const { app } = await startApp(t, { store, session: inStore, onLogout: ({ id }) => { reported.add(id) } })
  for (let index = 0; index < 30; index++) sessionCookie(app)
  let taken = 0
  fault.verbs = new Set(['take'])
  fault.work = async () => { if (++taken > 20) throw new Error('down') }
  await t.rejects(app.oidc.sessions.revoke({ sub: 'alice' }), { code: 'FST_OIDC_STORE_UNAVAILABLE' })
  t.equal(reported.size, 20)
  fault.verbs = null
  t.equal(await app.oidc.sessions.revoke({ sub: 'alice' }), 10, 'the others end when the store is back')
  t.equal(reported.size, 30)
})

t.test('the option store: an address, a store, and invalid values', async (t) => {
  const { app, provider } = await startApp(t, { store: 'memory:', session: inStore })
  const cookie = sessionCookie(app)
  t.equal(await status(app, cookie), 200)
  await app.close()
  for (const store of ['', 1, null, {}, { get () {} }]) {
    await t.rejects(buildApp(t, optionsFor(provider, { store } as never)), {
      code: 'FST_OIDC_OPTION',
      message: /"store"/
    })
  }
  await t.rejects(buildApp(t, optionsFor(provider, { session: inStore })), {
    code: 'FST_OIDC_OPTION',
    message: /"session\.store" needs a "store"/
  })
  const contended = { ...createMemoryStore(), create: async () => false }
  await t.rejects(
    (await buildApp(t, optionsFor(provider, { store: contended, session: inStore }))).oidc.sessions.revoke({
      sub: 'alice'
    }),
    { code: 'FST_OIDC_STORE_UNAVAILABLE', detail: /other processes write/ }
  )
  const strange = { ...createMemoryStore(), get: async () => await Promise.reject('no error') } // eslint-disable-line prefer-promise-reject-errors
  await t.rejects(
    (await buildApp(t, optionsFor(provider, { store: strange, session: inStore }))).oidc.sessions.revoke({
      sub: 'alice'
    }),
    { code: 'FST_OIDC_STORE_UNAVAILABLE', detail: 'the store: failed' }
  )
  const refused = Object.assign(new AggregateError([new Error('connect ECONNREFUSED')]), { code: 'ECONNREFUSED' })
  const unreachable = { ...createMemoryStore(), get: async () => await Promise.reject(refused) }
  await t.rejects(
    (await buildApp(t, optionsFor(provider, { store: unreachable, session: inStore }))).oidc.sessions.revoke({
      sub: 'alice'
    }),
    { code: 'FST_OIDC_STORE_UNAVAILABLE', detail: 'the store: ECONNREFUSED' }
  )
  const broken = {
    ...createMemoryStore(),
    has: () => {
      throw new Error('it throws at once')
    }
  }
  const other = await buildApp(t, optionsFor(provider, { store: broken as unknown as Store, session: inStore }))
  t.match((await other.inject({ url: '/me', headers: { cookie } })).json(), { code: 'FST_OIDC_STORE_UNAVAILABLE' })
})

for (const { name, options, listed } of shared) {
  t.test(`R24 ${name}: a logout of all users outlasts a new key`, async (t) => {
    const store = createMemoryStore()
    const { app: before, provider } = await startApp(t, options(store))
    const stale = await logIn({ app: before, provider }, 'alice')
    const forgotten = await logIn({ app: before, provider }, 'alice')
    await before.oidc.sessions.revoke({ sid: (await sessionOf(stale)).sid as string })
    await before.oidc.sessions.revoke({ provider: 'other' })
    const app = await buildApp(t, optionsFor(provider, options(store, { key: OTHER_KEY })))
    const browser = await logIn({ app, provider }, 'alice')
    t.equal((await browser.fetch('/me')).status, 200, 'a user can log in again')
    t.equal(await status(app, forgotten.cookies.header(BASE_URL)), 401)
    t.equal(
      (await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, { app, sub: 'alice' })).status,
      200,
      'and out, whatever older entries there are'
    )
    t.equal((await browser.fetch('/me')).status, 401)
    if (listed) t.same(await app.oidc.sessions.list({ sub: 'alice' }), [])
  })

  t.test(`R24 ${name}: the first request after a key rotation has its tokens`, async (t) => {
    const store = createMemoryStore()
    const { app: before, provider } = await startApp(t, { ...options(store), offlineAccess: true })
    const app = await buildApp(
      t,
      optionsFor(provider, { ...options(store, { key: [OTHER_KEY, SESSION_KEY] }), offlineAccess: true })
    )
    app.get('/guarded-token', { preHandler: app.oidc.required() }, async (request) => ({
      token: await app.oidc.accessToken(request)
    }))
    const cookie = (await logIn({ app: before, provider }, 'alice')).cookies.header(BASE_URL)
    t.equal(await status(app, cookie, '/guarded-token'), 200)
    const answer = await app.inject({
      method: 'POST',
      url: '/auth/logout',
      headers: { ...PAGE, origin: BASE_URL, cookie }
    })
    t.match(answer.headers.location, /id_token_hint=eyJ/)
  })

  t.test(
    `S58 ${name}: refreshed tokens survive a failing store, and parallel requests that seal the session`,
    async (t) => {
      const clock = stopClock(t)
      const { store, fault } = faultyStore()
      const { app, provider } = await startApp(t, {
        ...options(store, { key: [SESSION_KEY, OTHER_KEY] }),
        offlineAccess: true
      })
      const other = await another(t, provider, {
        ...options(store, { key: [OTHER_KEY, SESSION_KEY] }),
        offlineAccess: true
      })
      app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
      const browser = await logIn({ app, provider }, 'alice')
      const cookie = browser.cookies.header(BASE_URL)
      clock.advance(3580)
      provider.fault({
        on: 'token',
        times: 1,
        before: async () => {
          await status(other, cookie)
        }
      })
      t.equal((await browser.fetch('/token')).status, 200)
      clock.advance(3580)
      t.equal((await browser.fetch('/token')).status, 200, 'the new refresh token was saved')
      t.equal((await browser.fetch('/me')).status, 200)

      clock.advance(3580)
      provider.fault({
        on: 'token',
        times: 1,
        before: () => {
          fault.verbs = new Set(['replace', 'set'])
        },
        tokenResponse: (answer) => {
          delete answer.expires_in
        }
      })
      t.ok([200, 503].includes((await browser.fetch('/token')).status))
      fault.verbs = null
      clock.advance(120)
      t.equal((await browser.fetch('/token')).status, 200, 'found when the store is back')
      t.equal((await browser.fetch('/me')).status, 200)
      t.equal(provider.requests.filter(({ body }) => body['grant_type'] === 'refresh_token').length, 3)
    }
  )

  t.test(`R27 ${name}: a process that outlives its lease does not disturb the next one`, async (t) => {
    const clock = stopClock(t)
    const store = createMemoryStore()
    const apps = await Promise.all(
      [0, 1].map(async () => await startApp(t, { ...options(store), offlineAccess: true }))
    )
    const [{ app, provider }] = apps as [(typeof apps)[0] & object]
    const other = await another(t, provider, { ...options(store), offlineAccess: true })
    const third = await another(t, provider, { ...options(store), offlineAccess: true })
    app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
    const cookie = (await logIn({ app, provider }, 'alice')).cookies.header(BASE_URL)
    clock.advance(3600)
    provider.clearRequests()
    let taken: Promise<number> | undefined
    let waiting: Promise<number> | undefined
    provider.fault({
      on: 'token',
      times: 1,
      reset: true,
      async before () {
        clock.advance(130) // more than the lease of six timeouts of 20 seconds, and 5
        taken = status(other, cookie, '/token')
        await until(() => provider.count('token') === 2)
        waiting = status(third, cookie, '/token')
      }
    }, { on: 'token', when: () => taken !== undefined, delay: 200, times: 1 })
    t.equal(await status(app, cookie, '/token'), 200, 'the first, which failed, has what the second got')
    t.same([await taken, await waiting], [200, 200])
    t.equal(provider.count('token'), 2)
  })

  t.test(`R27 ${name}: expired tokens are not shared between processes, a failure is`, async (t) => {
    const clock = stopClock(t)
    const { store, calls } = faultyStore()
    const own = { ...options(store), offlineAccess: true, timeout: 5 }
    const { app, provider } = await startApp(t, own, { accessTokenTtl: 20, rotateRefreshTokens: false })
    app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
    const others = await Promise.all([1, 2, 3].map(async () => await another(t, provider, own)))
    const cookie = (await logIn({ app, provider }, 'alice')).cookies.header(BASE_URL)
    const tokens = new Set<string>()
    for (const one of [app, ...others]) {
      const answer = await one.inject({ url: '/token', headers: { cookie } })
      tokens.add(answer.json().token)
      clock.advance(21)
    }
    t.equal(tokens.size, 4, 'each token was valid when it was returned')

    provider.fault({ on: 'token', hang: true })
    provider.clearRequests()
    calls.length = 0
    const statuses = await Promise.all([app, ...others].map(async (one) => await status(one, cookie, '/token')))
    t.same([...new Set(statuses)], [503])
    t.equal(calls.filter((verb) => verb === 'replace').length, 1, 'one process waits, and shares the failure')
    t.equal(provider.count('token'), 1)
  })

  t.test(`V11 V33 S36 ${name}: a login that fails at its last step makes no session`, async (t) => {
    const { store, fault } = faultyStore()
    const { app, provider } = await startApp(t, options(store))
    const browser = await logIn({ app, provider }, 'alice')
    const copy = browser.cookies.header(BASE_URL)
    const { location } = await browser.goto('/auth/login', { until: ({ pathname }) => pathname === '/auth/callback' })
    let count = 0
    fault.verbs = new Set(listed ? ['take'] : ['create'])
    fault.work = async () => {
      count++
      if (listed ? count === 1 : count === 2) throw new Error('connection refused')
      return undefined
    }
    const page = await browser.goto(location as string)
    fault.verbs = null
    t.equal(page.status, 503)
    t.notOk(page.history.at(-1)?.setCookie.some((line) => line.startsWith('__Host-oidc=')), 'no new session')
    t.equal(await status(app, copy), 200, 'the session before it stays')
    if (listed) t.equal((await app.oidc.sessions.list({ sub: 'alice' })).length, 1)
  })
}

t.test('R27 when the lease of a refresh ends before the store is back, the log has an error', async (t) => {
  const clock = stopClock(t)
  const { store, fault } = faultyStore()
  const { lines, server } = captureLog()
  const { options } = shared[0] as typeof shared[number]
  const { app, provider } = await startApp(t, { ...options(store), offlineAccess: true, timeout: 5 }, {}, server)
  app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header(BASE_URL)
  clock.advance(3600)
  provider.fault({ on: 'token', before: () => { fault.verbs = new Set(['replace', 'set']) } })
  await status(app, cookie, '/token')
  clock.advance(36)
  await until(() => lines().includes('refreshed tokens are not in it'))
  t.match(lines(), /"level":50[^\n]*refreshed tokens are not in it/)
})

t.test('R27 a session that ends before the store is back gets no tokens', async (t) => {
  const clock = stopClock(t)
  const { store, fault, calls } = faultyStore()
  const { lines, server } = captureLog()
  const own = { store, session: inStore, offlineAccess: true, timeout: 5 }
  const { app, provider } = await startApp(t, own, {}, server)
  app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header(BASE_URL)
  clock.advance(3600)
  provider.fault({ on: 'token', before: () => { fault.verbs = new Set(['replace', 'set']) } })
  await status(app, cookie, '/token')
  fault.verbs = new Set()
  t.equal(await app.oidc.sessions.revoke({ sub: 'alice' }), 1)
  calls.length = 0
  await until(() => calls.includes('replace'))
  clock.advance(36)
  t.same(await app.oidc.sessions.list({ sub: 'alice' }), [])
  t.notMatch(lines(), 'refreshed tokens are not in it')
})

t.test('R22 a session that is too large leaves no entry in the store', async (t) => {
  const store = createMemoryStore()
  const { app, browser } = await startApp(t, { store, session: inStore, onClaims: () => ({ large: 'x'.repeat(6000) }) })
  t.equal((await browser.goto('/auth/login')).status, 431)
  t.same(await app.oidc.sessions.list({ sub: 'alice' }), [])
})

t.test('R30 a hook that does not end does not keep a user logged in', async (t) => {
  const store = createMemoryStore()
  const hook = createGate()
  const { app, provider } = await startApp(t, {
    store,
    session: inStore,
    onLogout: hook.pass
  })
  const cookies = Array.from({ length: 5 }, () => sessionCookie(app))
  const other = await buildApp(t, optionsFor(provider, { store, session: inStore }))
  app.oidc.sessions.revoke({ sub: 'alice' }).catch(t.fail)
  await hook.reached
  t.same(await Promise.all(cookies.map(async (cookie) => await status(other, cookie))), [401, 401, 401, 401, 401])
})

t.test('S39 a logout ends the session while the tenant cannot be resolved', async (t) => {
  const { provider } = await startApp(t)
  let known = true
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    resolveMaxAge: 0,
    resolveProvider: (_request, name) =>
      known
        ? {
            name: name ?? 'acme',
            issuer: provider.issuer,
            clientId: 'web',
            clientSecret: provider.clients[0]?.client_secret as string
          }
        : null
  })
  const browser = client({ app, baseUrl: BASE_URL })
  t.equal((await browser.goto('/auth/acme/login')).status, 200)
  const cookie = browser.cookies.header(BASE_URL)
  known = false
  t.equal((await browser.post('/auth/logout', '', { until: () => true })).status, 303)
  known = true
  t.equal(await status(app, cookie), 401)
})

t.test('sessions in cookies are revoked by id, and cannot be listed', async (t) => {
  const { app } = await startApp(t)
  for (const more of [{ sub: 'bob' }, { sid: 'x' }, { provider: 'default' }]) {
    await t.rejects(app.oidc.sessions.revoke({ id: 'x', ...more }), {
      code: 'FST_OIDC_OPTION',
      message: /by "id" alone/
    })
  }
  await app.oidc.sessions.revoke({ sid: 'X\nalice' })
  t.equal(await status(app, sessionCookie(app, { sid: 'X' })), 200)
})

t.test('V27 R32 unfinished logins do not remove sessions from a memory store', async (t) => {
  const store = createMemoryStore({ max: 50 })
  const { app, provider } = await startApp(t, { store, session: inStore })
  const cookie = sessionCookie(app)
  for (let count = 0; count < 60; count++) {
    const anonymous = client({ app, baseUrl: BASE_URL })
    const { location } = await anonymous.goto('/auth/login', { until: ({ origin }) => origin === provider.url })
    const state = new URL(location as string).searchParams.get('state') as string
    t.equal(
      (
        await anonymous.goto(
          `/auth/callback?error=access_denied&state=${state}&iss=${encodeURIComponent(provider.issuer)}`
        )
      ).status,
      403
    )
  }
  t.equal(await status(app, cookie), 200)
})

t.test('times that are not whole seconds', async (t) => {
  const { app } = await startApp(t, {
    store: createMemoryStore(),
    clockTolerance: 1.5,
    session: { ...inStore, idleTimeout: 100.5 }
  })
  t.equal(await status(app, sessionCookie(app)), 200)
})
