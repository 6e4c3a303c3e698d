import fc from 'fast-check'
import t from 'tap'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { client, sessionCookie, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor, stopClock } from '../support/app.ts'
import { enlargeTokens } from '../support/enlarge.ts'
import { createGate } from '../support/gate.ts'
import { testKey } from '../support/keys.ts'
import { captureLog } from '../support/protocol.ts'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions, Store } from '../../index.ts'
import type { TestBrowser } from '../../lib/testing/index.ts'
import type { TestApp } from '../support/app.ts'
import type { Gate } from '../support/gate.ts'

t.setTimeout(120_000) // where other work shares the cores

const USER = '__Host-oidc-user-0'
const BUDGET = 8000
const HOUR = 3600

const provider = await startProvider({ refreshTokens: 'always' })
t.teardown(async () => await provider.close())

interface Gates {
  before?: Gate
  after?: Gate
}

/** `POST /user` changes the user, `GET /token` refreshes the tokens, `POST /both` does both. */
function userRoutes (app: FastifyInstance, gates: Gates = {}): void {
  const { oidc } = app
  const guard = { preHandler: oidc.required() }
  app.post<{ Body: { user: object | null } }>('/user', guard, async (request) => {
    await gates.before?.pass()
    await oidc.updateUser(request, request.body.user)
    await gates.after?.pass()
    return { user: request.oidcUser }
  })
  app.get('/token', guard, async (request) => await oidc.accessToken(request, { refresh: true }))
  app.get('/slow', guard, async () => { await gates.before?.pass(); return 'slow' })
  app.post<{ Querystring: { first?: string } }>('/both', guard, async (request) => {
    if (request.query.first === 'user') await oidc.updateUser(request, { n: 'both' })
    const token = await oidc.accessToken(request, { refresh: true })
    if (request.query.first !== 'user') await oidc.updateUser(request, { n: 'both' })
    return { token, user: request.oidcUser }
  })
  app.post('/bare', async (request) => {
    await oidc.updateUser(request, { n: 'bare' })
    return { oidcUser: request.oidcUser, session: await oidc.session(request) }
  })
}

const STORES: Array<[name: string, options: () => Partial<OidcOptions>]> = [
  ['cookies', () => ({})],
  ['cookies and a store', () => ({ store: createMemoryStore() })],
  ['sessions in the store', () => ({ store: createMemoryStore(), session: { key: SESSION_KEY, store: true } })]
]

async function start (
  t: Test,
  options: Partial<OidcOptions> = {},
  gates: Gates = {},
  addRoutes: (app: FastifyInstance) => void = () => {}
): Promise<TestApp> {
  const app = await buildApp(t, optionsFor(provider, { offlineAccess: true, onClaims: () => ({ n: 0 }), ...options }))
  userRoutes(app, gates)
  addRoutes(app)
  return { app, provider, browser: await logIn({ app, provider }, 'alice') }
}

const me = async (browser: TestBrowser): Promise<{ user: unknown, session: { id: string } }> =>
  (await browser.fetch('/me')).json()
const change = async (browser: TestBrowser, user: unknown) =>
  await browser.fetch('/user', { method: 'POST', json: { user } })

t.test('updateUser replaces the user at once and for later requests, and nothing else of the session', async (t) => {
  for (const [name, options] of STORES) {
    await t.test(name, async (t) => {
      const { app, browser } = await start(t, options())
      const other = await logIn({ app, provider }, 'alice')
      const before = await me(browser)
      t.same(before.user, { n: 0 })
      for (const user of [{ n: 1, text: 'ü€' }, { n: 2 }, null, { n: 3 }]) {
        const page = await change(browser, user)
        t.same([page.status, page.json().user], [200, user])
        t.equal(page.headers.get('cache-control'), 'no-store')
        t.same(await me(browser), { ...before, user }, 'the same id, begin, end and claims')
      }
      t.same((await me(other)).user, { n: 0 }, 'another session of the user stays as it is')
      await browser.post('/auth/logout')
      t.same(browser.cookies.list(BASE_URL), [], 'a logout removes the cookie')
      await browser.goto('/me')
      t.same((await me(browser)).user, { n: 0 }, 'a new login begins with its own')
      t.same(browser.cookies.refused, [])
    })
  }
})

t.test('a refresh and updateUser, in one request and in parallel ones: neither is lost', async (t) => {
  for (const [name, options] of STORES) {
    await t.test(name, async (t) => {
      const gates: Gates = {}
      const { browser } = await start(t, options(), gates)
      for (const first of ['user', 'token']) {
        await change(browser, { n: 'before' })
        const { token, user } = (await browser.fetch(`/both?first=${first}`, { method: 'POST', json: {} })).json()
        t.same([user, (await me(browser)).user], [{ n: 'both' }, { n: 'both' }])
        t.not((await browser.fetch('/token')).text(), token)
      }
      for (const when of ['after', 'before'] as const) {
        const gate = gates[when] = createGate()
        const changed = change(browser, { when })
        await gate.reached
        t.equal((await browser.fetch('/token')).status, 200)
        gate.open()
        await changed
        delete gates[when]
        t.same((await me(browser)).user, { when })
        const count = provider.count('token')
        t.equal((await browser.fetch('/token')).status, 200, 'the new refresh token is there')
        t.equal(provider.count('token'), count + 1)
      }
    })
  }
})

t.test('a slow response that renews the idle time does not take the user back', async (t) => {
  const clock = stopClock(t)
  const gates: Gates = {}
  const { browser } = await start(t, {}, gates)
  for (const n of [1, 2]) {
    clock.advance(1000)
    const gate = gates.before = createGate()
    const slow = browser.fetch('/slow')
    await gate.reached
    delete gates.before
    await change(browser, { n })
    gate.open()
    t.ok((await slow).headers.getSetCookie().some((line) => line.startsWith('__Host-oidc=')), 'it writes the session')
    t.same((await me(browser)).user, { n })
  }
  browser.cookies.delete(USER)
  t.equal((await me(browser)).user, null, 'the session cookie has no user any more')
})

t.test('R35 whatever comes in parallel, the last user that was given is there', async (t) => {
  const clock = stopClock(t)
  const world = await start(t, { session: { key: SESSION_KEY, idleTimeout: 4000 } })
  const step = fc.record({ kind: fc.constantFrom('user', 'token', 'read'), late: fc.boolean() })
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 8 }), async (steps) => {
    const browser = await logIn(world, 'alice')
    const late: Array<() => void> = []
    let expected: unknown = { n: 0 }
    for (const [n, { kind, late: isLate }] of steps.entries()) {
      clock.advance(400)
      // A response that comes late: its request was sent with the cookies of now.
      const sender = isLate ? browser.clone() : browser
      if (kind === 'user') await change(browser, expected = { n })
      else if (kind === 'token') await sender.fetch('/token')
      else await sender.fetch('/me')
      if (!isLate || kind === 'user') continue
      const before = new Map(browser.cookies.list(BASE_URL).map(({ name, value }) => [name, value]))
      const set = sender.cookies.list(BASE_URL).filter(({ name, value }) => before.get(name) !== value)
      late.push(() => { for (const { name, value } of set) browser.cookies.set(name, value) })
    }
    for (const arrive of late) arrive()
    return JSON.stringify((await me(browser)).user) === JSON.stringify(expected)
  }), { numRuns: 8 })
})

t.test('V18 S41 updateUser revives no session that has ended', async (t) => {
  for (const [name, options] of STORES) {
    for (const when of ['before', 'after'] as const) {
      await t.test(`${name}, ended ${when} the change`, async (t) => {
        const gate = createGate()
        const { app, browser } = await start(t, options(), { [when]: gate })
        const { session: { id } } = await me(browser)
        const copy = browser.clone()
        const changed = change(browser, { n: 1 })
        await gate.reached
        await app.oidc.sessions.revoke({ id })
        gate.open()
        const page = await changed
        if (when === 'before') t.match([page.status, page.json()], [401, { code: 'FST_OIDC_LOGIN_REQUIRED' }])
        t.notOk(page.headers.getSetCookie().some((line) => !line.includes('Max-Age=0')))
        for (const tab of [browser, copy]) t.equal((await tab.fetch('/me')).status, 401)
      })
    }
  }
})

t.test('V18 a logout, or another login, in the same request: the session that ended is not written', async (t) => {
  const store = createMemoryStore()
  const has = store.has.bind(store)
  let gate: Gate | undefined
  store.has = async (...name) => {
    const found = await has(...name)
    await gate?.pass()
    return found
  }
  /** Begins to change the user, and stops when the store has said that the session is live. */
  async function changeSlowly (request: FastifyRequest): Promise<{ finish: () => Promise<unknown> }> {
    const slow = gate = createGate()
    const changing = request.server.oidc.updateUser(request, { n: 1 }).then(() => 'changed', ({ code }) => code)
    await slow.reached
    gate = undefined
    return { finish: async () => { slow.open(); return await changing } }
  }
  let isSlow = false
  let slow: Awaited<ReturnType<typeof changeSlowly>> | undefined
  const { browser } = await start(t, {
    store,
    session: { key: SESSION_KEY, store: true },
    onClaims: async (_claims, { request }) => {
      if (isSlow) slow = await changeSlowly(request)
      return { n: 0 }
    }
  }, {}, (app) => app.post('/leave', { preHandler: app.oidc.required() }, async (request, reply) => {
    const { finish } = await changeSlowly(request)
    await app.oidc.logout(request, reply, { federated: false })
    t.equal(await finish(), 'FST_OIDC_LOGIN_REQUIRED')
    return reply
  }))
  t.equal((await browser.fetch('/leave', { method: 'POST', json: {} })).status, 200)
  t.notOk(browser.cookies.get(USER))

  t.equal((await browser.goto('/auth/login')).status, 200)
  isSlow = true
  const { session: { id } } = await me(browser)
  t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200)
  t.equal(await slow?.finish(), 'FST_OIDC_LOGIN_REQUIRED', 'the request has another session now')
  const after = await me(browser)
  t.not(after.session.id, id)
  t.same(after.user, { n: 0 })
})

t.test('without a session, with an access token, from another site: updateUser refuses', async (t) => {
  const { lines, server } = captureLog()
  const options = optionsFor(provider, { bearer: { audience: 'https://api.example.com' } })
  const app = await buildApp(t, options, server)
  userRoutes(app)
  const post = async (url: string, headers: Record<string, string>) =>
    await app.inject({ method: 'POST', url, headers: { origin: BASE_URL, ...headers }, payload: { user: { n: 1 } } })
  t.match((await post('/bare', {})).json(), { statusCode: 401, code: 'FST_OIDC_LOGIN_REQUIRED' })
  const cookie = sessionCookie(app, { user: { n: 0 } })
  const crossSite = await post('/bare', { cookie, origin: 'https://evil.example' })
  t.match([crossSite.json(), crossSite.headers['set-cookie']], [{ code: 'FST_OIDC_LOGIN_REQUIRED' }, undefined])
  t.match(lines(), 'FST_OIDC_CROSS_SITE')
  t.match((await post('/bare', { cookie })).json(), { oidcUser: null, session: { user: { n: 'bare' } } }, 'without a guard')
  const token = await provider.accessToken({ sub: 'alice', overrides: { aud: 'https://api.example.com' } })
  const answer = await post('/user', { cookie, authorization: `Bearer ${token}` })
  t.match([answer.statusCode, answer.json()], [401, { code: 'FST_OIDC_LOGIN_REQUIRED' }])
  t.equal(answer.headers['set-cookie'], undefined)
  await t.rejects(app.oidc.updateUser({ headers: {} } as never, {}), { code: 'FST_OIDC_OUTSIDE' })
})

t.test('K2 R22 a user that is no JSON, or does not fit, is refused, and the one of before stays', async (t) => {
  let user: unknown
  const { browser } = await start(t, {}, {}, (app) => app.post('/any', async (request) => {
    await app.oidc.updateUser(request, user as object)
    return 'changed'
  }))
  const send = async (value: unknown) => {
    user = value
    return await browser.fetch('/any', { method: 'POST', json: {} })
  }
  const cycle: Record<string, unknown> = {}
  cycle['self'] = cycle
  for (const wrong of [cycle, { big: 1n }, undefined]) {
    const page = await send(wrong)
    t.match([page.status, page.json()], [500, { code: 'FST_OIDC_OPTION', message: 'the user must be a JSON value' }])
  }
  const large = await send({ text: 'x'.repeat(3000) })
  t.match([large.status, large.json()], [431, { code: 'FST_OIDC_SESSION_TOO_LARGE' }], 'the limit of one cookie')
  t.same((await me(browser)).user, { n: 0 })
  for (const letter of ['a', 'b']) t.equal((await send({ text: letter.repeat(2800) })).status, 200)
  t.equal((await browser.fetch('/token')).status, 200)
  t.ok(browser.cookies.bytes() < BUDGET, `${browser.cookies.bytes()} bytes`)
  t.same(browser.cookies.refused, [])

  enlargeTokens(provider, { access_token: 2000, refresh_token: 0, id_token: 0 })
  t.match((await browser.fetch('/token')).json(), { code: 'FST_OIDC_SESSION_TOO_LARGE' }, 'tokens have no room beside it')
  t.equal((await send({ n: 1 })).status, 200)
  t.equal((await browser.fetch('/token')).status, 200, 'and have again')
  const refused = await send({ text: 'x'.repeat(2800) })
  t.match([refused.status, refused.json()], [431, { code: 'FST_OIDC_SESSION_TOO_LARGE' }], 'and it has none beside them')
  t.same((await me(browser)).user, { n: 1 })
  provider.clearFaults()
})

t.test('K2 a long address gives way to a user', async (t) => {
  const { browser } = await start(t)
  const path = `/auth/login?return_to=${encodeURIComponent(`/me?${'x'.repeat(2500)}`)}`
  await browser.step(path)
  t.ok(browser.cookies.get('__Host-oidc-return'))
  t.equal((await change(browser, { text: 'x'.repeat(2500) })).status, 200)
  t.notOk(browser.cookies.get('__Host-oidc-return'))
  t.ok(browser.cookies.bytes() < BUDGET, `${browser.cookies.bytes()} bytes`)
})

t.test('R24 after a key rotation the user stays, also when the older key is gone', async (t) => {
  for (const store of [false, true]) {
    const clock = stopClock(t)
    const options = { store: createMemoryStore(), offlineAccess: true }
    const { app, browser } = await start(t, { ...options, session: { key: SESSION_KEY, store } })
    await change(browser, { n: 1 })
    await app.close()
    for (const key of [[testKey(8), SESSION_KEY], [testKey(8)]]) {
      const next = await buildApp(t, optionsFor(provider, { ...options, session: { key, store } }))
      const there = client({ app: next, baseUrl: BASE_URL })
      for (const { name, value } of browser.cookies.list(BASE_URL)) there.cookies.set(name, value)
      t.same((await me(there)).user, { n: 1 })
      for (const { name, value } of there.cookies.list(BASE_URL)) browser.cookies.set(name, value)
      clock.advance(60)
      await next.close()
    }
  }
})

t.test('R23 the user of another session, or a forged one, does not count', async (t) => {
  const { app, browser: alice } = await start(t)
  const bob = await logIn({ app, provider }, 'bob')
  await change(bob, { n: 'of bob' })
  for (const value of [bob.cookies.get(USER) as string, 'forged', alice.cookies.get('__Host-oidc') as string]) {
    alice.cookies.set(USER, value)
    t.same((await me(alice)).user, { n: 0 })
  }
  alice.cookies.set('__Host-oidc', bob.cookies.get(USER) as string)
  t.equal((await alice.fetch('/me')).status, 401, 'nor is it a session')
})

t.test('K11 a reply without Fastify has the new user', async (t) => {
  const { browser } = await start(t, {}, {}, (app) => {
    app.post('/raw', { preHandler: app.oidc.required() }, async (request, reply) => {
      await app.oidc.updateUser(request, { n: 'raw' })
      reply.hijack()
      reply.raw.end('raw')
    })
  })
  t.equal((await browser.fetch('/raw', { method: 'POST', json: {} })).text(), 'raw')
  t.same((await me(browser)).user, { n: 'raw' })
})

t.test('K2 a login whose callback comes without cookies removes the user of the session before', async (t) => {
  const { browser } = await start(t, { responseMode: 'form_post', session: { key: SESSION_KEY, idleTimeout: HOUR } })
  await change(browser, { n: 1 })
  t.ok(browser.cookies.get(USER))
  t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200)
  t.notOk(browser.cookies.get(USER))
  t.same((await me(browser)).user, { n: 0 })
})

t.test('R28 a refresh that saves its tokens while updateUser runs does not take the user back', async (t) => {
  const memory = createMemoryStore()
  let gate: Gate | undefined
  const store: Store = {
    ...memory,
    async replace (key, ...others) {
      if (key.startsWith('session:')) await gate?.pass()
      return await memory.replace(key, ...others)
    }
  }
  const session = { key: SESSION_KEY, store: true }
  const onClaims = () => ({ n: 0 })
  const app = await buildApp(t, optionsFor(provider, { offlineAccess: true, store, session, onClaims }))
  app.post('/both', { preHandler: app.oidc.required() }, async (request) => {
    const saving = gate = createGate()
    const token = app.oidc.accessToken(request, { refresh: true })
    await saving.reached
    await app.oidc.updateUser(request, { n: 1 })
    saving.open()
    await token
    gate = undefined
    return { user: request.oidcUser, later: (await app.oidc.session(request))?.user }
  })
  const browser = await logIn({ app, provider }, 'alice')
  t.same((await browser.fetch('/both', { method: 'POST', json: {} })).json(), { user: { n: 1 }, later: { n: 1 } })
  t.same((await browser.fetch('/me')).json().user, { n: 1 })
})

t.test('R28 S38 a logout while a refresh saves its tokens stays a logout', async (t) => {
  const memory = createMemoryStore()
  let gate: Gate | undefined
  const store: Store = {
    ...memory,
    async replace (key, ...others) {
      const isReplaced = await memory.replace(key, ...others)
      if (key.startsWith('session:')) await gate?.pass()
      return isReplaced
    }
  }
  const session = { key: SESSION_KEY, store: true }
  const app = await buildApp(t, optionsFor(provider, { offlineAccess: true, store, session }))
  app.post('/leave', { preHandler: app.oidc.required() }, async (request, reply) => {
    const saved = gate = createGate()
    const token = app.oidc.accessToken(request, { refresh: true })
    await saved.reached
    await app.oidc.logout(request, reply, { federated: false })
    saved.open()
    await token
    return reply
  })
  const browser = await logIn({ app, provider }, 'alice')
  const copy = browser.cookies.header(BASE_URL)
  await browser.step('/leave', { method: 'POST' })
  t.equal((await browser.fetch('/me')).status, 401)
  t.equal((await app.inject({ url: '/me', headers: { cookie: copy } })).statusCode, 401)
})
