import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { createKeptTokens } from '../../lib/session/kept-tokens.ts'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor, startApp, stopClock } from '../support/app.ts'
import { createGate } from '../support/gate.ts'
import { faultyStore } from '../support/modes.ts'
import { until } from '../support/until.ts'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { Provider as OpenIdProvider } from '../../lib/provider/provider.ts'
import type { SealedStore } from '../../lib/store/sealed-store.ts'
import type { Provider, ProviderOptions } from '../../lib/testing/index.ts'
import type { OidcOptions, Store } from '../../index.ts'

t.setTimeout(120_000) // where other work shares the cores

const TTL = 3600
const DAY = 86_400
const session = { key: SESSION_KEY, idleTimeout: DAY, maxAge: 7 * DAY }

interface World {
  app: FastifyInstance
  provider: Provider
  clock: ReturnType<typeof stopClock>
  /** The cookies of a user who has just logged in. */
  cookie: string
}

type AddRoutes = (app: FastifyInstance) => void

function addRoutes (app: FastifyInstance): void {
  app.get('/token', async (request) => await app.oidc.accessToken(request))
  app.get('/again', async (request) => await app.oidc.accessToken(request, { refresh: true }))
  app.get('/fresh', { preHandler: app.oidc.required({ refresh: true }) }, async () => 'fresh')
  app.get('/hijacked', { preHandler: app.oidc.required() }, async (request, reply) => {
    const token = await app.oidc.accessToken(request)
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream' })
    reply.raw.end(token)
  })
  app.get('/unguarded', async (request, reply) => {
    const token = await app.oidc.accessToken(request)
    reply.hijack()
    reply.raw.end(token)
  })
}

async function start (
  t: Test,
  options: Partial<OidcOptions> = {},
  providerOptions: ProviderOptions = {},
  addMore: AddRoutes = () => {}
): Promise<World> {
  const clock = stopClock(t)
  const { app, provider } = await startApp(
    t,
    { offlineAccess: true, timeout: 30, session, ...options },
    { accessTokenTtl: TTL, ...providerOptions }
  )
  addRoutes(app)
  addMore(app)
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header(BASE_URL)
  provider.clearRequests()
  return { app, provider, clock, cookie }
}

interface Answer {
  status: number
  token: string
  /** What the browser sends next if it got this response. */
  cookie: string
  headers: Record<string, unknown>
}

async function get (app: FastifyInstance, url: string, cookie: string): Promise<Answer> {
  const { statusCode, body, headers } = await app.inject({ url, headers: { cookie } })
  const jar = new Map(cookie.split('; ').map((pair) => [pair.slice(0, pair.indexOf('=')), pair] as const))
  for (const line of [headers['set-cookie'] ?? []].flat()) {
    const pair = line.split(';', 1)[0] as string
    jar.set(pair.slice(0, pair.indexOf('=')), pair)
  }
  return { status: statusCode, token: body, cookie: [...jar.values()].join('; '), headers }
}

function refreshes ({ provider }: Pick<World, 'provider'>): number {
  return provider.requests.filter(({ body }) => body['grant_type'] === 'refresh_token').length
}

function revoked ({ provider }: Pick<World, 'provider'>): unknown[] {
  return provider.requests.filter(({ endpoint }) => endpoint === 'revocation').map(({ body }) => body['token'])
}

/** The refresh tokens that the provider gives from now on, newest first. */
function watchTokens ({ provider }: Pick<World, 'provider'>): unknown[] {
  const issued: unknown[] = []
  provider.fault({ on: 'token', tokenResponse: (answer) => { issued.unshift(answer.refresh_token) } })
  return issued
}

const places: Array<[string, () => Partial<OidcOptions>]> = [
  ['in this process', () => ({})],
  ['in the store', () => ({ store: createMemoryStore() })]
]

for (const [place, options] of places) {
  t.test(`K11 ${place}: a response that the browser never got loses no refresh token, for an hour`, async (t) => {
    const world = await start(t, options())
    const { app, clock, cookie } = world
    clock.advance(TTL)
    const lost = await get(app, '/token', cookie)
    t.equal(lost.status, 200)
    clock.advance(TTL - 1)
    const next = await get(app, '/token', cookie)
    t.same([next.status, next.token], [200, lost.token], 'the old cookies give the new tokens')
    t.equal(refreshes(world), 1, 'the provider is not asked with the old refresh token')
    t.equal((await get(app, '/me', next.cookie)).status, 200)

    const other = await start(t, options())
    other.clock.advance(TTL)
    await get(other.app, '/token', other.cookie)
    other.clock.advance(TTL)
    t.equal((await get(other.app, '/token', other.cookie)).status, 401, 'after an hour they are gone')
    t.equal(refreshes(other), 2)
  })

  t.test(`K11 ${place}: a browser that gets no response stays logged in while it is refreshed`, async (t) => {
    const world = await start(t, options(), { accessTokenTtl: 1800 })
    const { app, clock, cookie } = world
    const tokens = new Set<string>()
    for (let count = 1; count <= 6; count++) {
      clock.advance(1800)
      const { status, token } = await get(app, '/unguarded', cookie)
      t.equal(status, 200)
      tokens.add(token)
      t.equal(refreshes(world), count)
    }
    t.equal(tokens.size, 6, 'each token was a new one')
    t.equal((await get(app, '/token', (await get(app, '/token', cookie)).cookie)).status, 200)
  })

  t.test(`K11 ${place}: once a request has come with the new cookies, the old ones find nothing`, async (t) => {
    const world = await start(t, options())
    const { app, clock, cookie } = world
    clock.advance(TTL)
    const { token, cookie: next } = await get(app, '/token', cookie)
    t.equal((await get(app, '/token', next)).token, token)
    clock.advance(59)
    t.equal((await get(app, '/token', cookie)).token, token, 'a request that was under way still does')
    t.equal((await get(app, '/token', next)).token, token, 'a second request with the new cookies prolongs nothing')
    clock.advance(1)
    t.equal((await get(app, '/token', cookie)).status, 401, 'the provider takes it for a stolen one')
    t.equal(refreshes(world), 2)
  })

  t.test(`K11 ${place}: a late response with older tokens is no loss either`, async (t) => {
    const world = await start(t, options(), { accessTokenTtl: 600 })
    const { app, clock, cookie } = world
    clock.advance(600)
    const late = await get(app, '/token', cookie)
    clock.advance(600)
    const newest = await get(app, '/token', cookie)
    t.not(newest.token, late.token)
    clock.advance(120)
    const next = await get(app, '/token', late.cookie)
    t.equal(next.token, newest.token, 'the old tokens of the late response lead to the newest')
    clock.advance(600)
    t.equal((await get(app, '/token', next.cookie)).status, 200)
  })

  t.test(`K11 ${place}: a logout ends and revokes what was kept`, async (t) => {
    const world = await start(t, options())
    const issued = watchTokens(world)
    const { app, clock, cookie } = world
    clock.advance(TTL)
    await get(app, '/token', cookie)
    const response = await app.inject({
      method: 'POST', url: '/auth/logout', headers: { cookie, origin: BASE_URL, 'sec-fetch-site': 'same-origin' }
    })
    t.equal(response.statusCode, 303)
    await until(() => revoked(world).length > 0)
    t.same(revoked(world), [issued[0]], 'the newest refresh token, which the browser never got')
    t.equal((await get(app, '/token', cookie)).status, 401)
    t.equal(refreshes(world), 1)
  })

  t.test(`K11 ${place}: a logout by the provider ends what was kept`, async (t) => {
    const world = await start(t, options())
    const { app, clock, cookie, provider } = world
    clock.advance(TTL)
    await get(app, '/token', cookie)
    t.equal((await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, { app, sub: 'alice' })).status, 200)
    t.equal((await get(app, '/token', cookie)).status, 401)
    t.equal(refreshes(world), 1)
  })
}

t.test('K11 a process that has not refreshed finds the tokens in the store', async (t) => {
  const store = createMemoryStore()
  const world = await start(t, { store })
  const { app, clock, cookie, provider } = world
  const other = await buildApp(t, optionsFor(provider, { store, offlineAccess: true, timeout: 30, session }))
  addRoutes(other)
  clock.advance(TTL)
  const { token, cookie: next } = await get(app, '/token', cookie)
  clock.advance(120)
  t.equal((await get(other, '/token', cookie)).token, token)
  t.equal((await get(other, '/token', next)).token, token)
  clock.advance(60)
  t.equal((await get(app, '/token', cookie)).status, 401, 'a request with the new cookies at any process ends it')
})

t.test('K11 two processes without a store: each knows what it has refreshed', async (t) => {
  const world = await start(t)
  const { app, clock, cookie, provider } = world
  const other = await buildApp(t, optionsFor(provider, { offlineAccess: true, timeout: 30, session }))
  addRoutes(other)
  clock.advance(TTL)
  const { token, cookie: next } = await get(app, '/token', cookie)
  t.equal((await get(other, '/token', next)).token, token, 'the new cookies are good everywhere')
  clock.advance(120)
  t.equal((await get(app, '/token', cookie)).token, token, 'and the old ones at the process that refreshed')
  t.equal(refreshes(world), 1)
})

t.test('K11 the kept tokens are found only by who has the sealed cookies from before', async (t) => {
  const names: string[] = []
  const memory = createMemoryStore()
  const store: Store = {
    ...memory,
    async set (key, value, options) {
      if (key.startsWith('kept:')) names.push(`${key} ${value}`)
      await memory.set(key, value, options)
    }
  }
  const world = await start(t, { store })
  const { app, clock, cookie } = world
  const bob = (await logIn(world, 'bob')).cookies.header(BASE_URL)
  clock.advance(TTL)
  const { token } = await get(app, '/token', cookie)
  const { token: other } = await get(app, '/token', bob)
  t.not(other, token, 'S47 another user has other tokens')
  t.equal((await get(app, '/token', cookie)).token, token)
  t.equal(names.length, 2)
  t.notMatch(names.join(), token, 'the store has them sealed')
  const [hot] = cookie.split('; ')
  t.equal((await get(app, '/token', hot as string)).status, 401, 'the session alone does not find them')
})

t.test('K11 a provider that does not rotate refresh tokens: nothing is kept', async (t) => {
  const { store, calls } = faultyStore()
  const world = await start(t, { store }, { rotateRefreshTokens: false })
  const { app, clock, cookie } = world
  clock.advance(TTL)
  calls.length = 0
  const first = await get(app, '/token', cookie)
  t.notOk(calls.includes('set'))
  clock.advance(120)
  const second = await get(app, '/token', cookie)
  t.not(second.token, first.token, 'the same refresh token is sent again')
  t.equal(refreshes(world), 2)
})

t.test('K11 sessions in the store: the new tokens are saved there, nothing is kept beside them', async (t) => {
  const { store, calls } = faultyStore()
  const world = await start(t, { store, session: { ...session, store: true } })
  const { app, clock, cookie } = world
  clock.advance(TTL)
  calls.length = 0
  const { token } = await get(app, '/unguarded', cookie)
  t.notOk(calls.includes('set'))
  clock.advance(TTL - 31)
  t.equal((await get(app, '/token', cookie)).token, token)
  clock.advance(31)
  t.equal((await get(app, '/unguarded', cookie)).status, 200)
  t.equal(refreshes(world), 2)
  await app.inject({ method: 'POST', url: '/auth/logout', headers: { cookie, origin: BASE_URL } })
  await until(() => revoked(world).length > 0)
  t.equal(revoked(world).length, 1)
})

t.test('K11 a store that fails loses no token that reached the browser', async (t) => {
  const { store, fault } = faultyStore()
  const world = await start(t, { store })
  const { app, clock, cookie } = world
  clock.advance(TTL)
  fault.verbs = new Set(['set'])
  const first = await get(app, '/token', cookie)
  t.equal(first.status, 200)
  fault.verbs = new Set(['get'])
  clock.advance(1)
  fault.work = async () => { throw new Error('connection refused') }
  const unreachable = await get(app, '/token', first.cookie)
  t.equal(unreachable.status, 503, 'whether the session has ended cannot be known')
  fault.verbs = null
  t.equal((await get(app, '/token', first.cookie)).token, first.token)
  clock.advance(TTL)
  fault.verbs = new Set(['set'])
  const next = await get(app, '/token', first.cookie)
  fault.verbs = null
  t.equal((await get(app, '/token', next.cookie)).token, next.token)
})

t.test('K11 a refresh that an API asked for twice in one request is kept as well', async (t) => {
  const world = await start(t, {}, {}, (app) => {
    app.get('/twice', async (request) => {
      const first = await app.oidc.accessToken(request, { refresh: true })
      return [first, await app.oidc.accessToken(request, { refresh: true })]
    })
  })
  const { app, clock, cookie } = world
  const { token } = await get(app, '/twice', cookie)
  const [first, second] = JSON.parse(token) as [string, string]
  t.not(first, second)
  clock.advance(120)
  t.equal((await get(app, '/again', cookie)).token, first)
  t.equal((await get(app, '/again', (await get(app, '/again', cookie)).cookie)).token, second)
  t.equal(refreshes(world), 2)
})

for (const [place, options] of [
  ['in cookies', {}],
  ['in the store', { store: 'memory:', session: { ...session, store: true } }]
] as const) {
  t.test(`R28 K11 ${place}: a logout while a refresh runs revokes what the refresh gives`, async (t) => {
    const world = await start(t, options)
    const issued = watchTokens(world)
    const { app, clock, cookie, provider } = world
    clock.advance(TTL)
    const gate = createGate()
    provider.fault({ on: 'token', times: 1, before: gate.pass })
    const refreshing = get(app, '/token', cookie)
    await gate.reached
    const { statusCode } = await app.inject({
      method: 'POST', url: '/auth/logout', headers: { cookie, origin: BASE_URL }
    })
    t.equal(statusCode, 303, 'the logout does not wait')
    gate.open()
    await refreshing
    await until(() => revoked(world).length > 0)
    t.same(revoked(world), [issued[0]])
  })
}

t.test('K11 a logout in this application only revokes nothing, but ends what was kept', async (t) => {
  const world = await start(t, {}, {}, (app) => {
    app.get('/leave', async (request, reply) => await app.oidc.logout(request, reply, { federated: false }))
  })
  const { app, clock, cookie } = world
  clock.advance(TTL)
  await get(app, '/token', cookie)
  t.equal((await get(app, '/leave', cookie)).status, 302)
  t.equal((await get(app, '/token', cookie)).status, 401)
  t.same(revoked(world), [])
})

t.test('K11 a browser that closes the connection before the answer', async (t) => {
  const world = await start(t)
  const { app, clock, cookie, provider } = world
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  clock.advance(TTL)
  const gate = createGate()
  const clear = provider.fault({ on: 'token', times: 1, before: gate.pass })
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.write(`GET /token HTTP/1.1\r\nhost: app.example.com\r\ncookie: ${cookie}\r\n\r\n`)
  await gate.reached
  socket.destroy()
  await once(socket, 'close')
  gate.open()
  await until(() => refreshes(world) === 1)
  clear()
  clock.advance(300)
  t.equal((await get(app, '/token', cookie)).status, 200, 'the next tab gets the tokens of the closed one')
  t.equal(refreshes(world), 1)
})

t.test('K17 a hijacked response renews the idle time, and has the refreshed tokens', async (t) => {
  const options = { session: { key: SESSION_KEY, idleTimeout: 3600 } }
  const world = await start(t, options, { accessTokenTtl: 1200 }, (app) => {
    app.get('/raw', { preHandler: app.oidc.required() }, (_request, reply) => { reply.raw.end('raw') })
  })
  const { app, clock } = world
  let { cookie } = world
  for (const url of ['/hijacked', '/raw', '/hijacked', '/hijacked', '/raw', '/hijacked']) {
    clock.advance(1200)
    const answer = await get(app, url, cookie)
    t.equal(answer.status, 200, url)
    t.equal(answer.headers['cache-control'], 'no-store', 'no cache keeps the cookies')
    cookie = answer.cookie
  }
  t.equal(refreshes(world), 4)
})

t.test('K17 a hijacked response of a guard that refreshes has the new tokens', async (t) => {
  const world = await start(t, {}, {}, (app) => {
    app.get('/events', { preHandler: app.oidc.required({ refresh: true }) }, (_request, reply) => {
      reply.hijack()
      reply.raw.end('events')
    })
  })
  const { app, clock, cookie } = world
  clock.advance(TTL)
  const answer = await get(app, '/events', cookie)
  clock.advance(7200)
  t.equal((await get(app, '/token', answer.cookie)).status, 200)
  t.equal(refreshes(world), 2)
})

t.test('K17 what the guard has set early is there once, beside the cookies of others', async (t) => {
  const { app, clock, cookie } = await start(t, {}, {}, (app) => {
    app.addHook('onRequest', async (_request, reply) => {
      reply.header('set-cookie', 'first=1')
      reply.raw.setHeader('set-cookie', 'raw=1')
    })
    app.get('/both', { preHandler: [app.oidc.required(), app.oidc.required()] }, async (request, reply) => {
      reply.header('set-cookie', 'second=2')
      await app.oidc.accessToken(request)
      return 'both'
    })
    app.get('/leave', { preHandler: app.oidc.required() }, async (request, reply) => {
      return await app.oidc.logout(request, reply)
    })
    app.get('/hijacked-too', { preHandler: app.oidc.required() }, (_request, reply) => {
      reply.hijack()
      reply.raw.end()
    })
    app.get('/too-late', { preHandler: app.oidc.required() }, async (request, reply) => {
      reply.hijack()
      reply.raw.write('begun')
      reply.raw.end(await app.oidc.accessToken(request))
    })
  })
  const namesOf = (value: unknown): string[] => {
    return [value ?? []].flat().map((line) => String(line).split('=', 1)[0] as string)
  }
  clock.advance(DAY / 10)
  const both = await get(app, '/both', cookie)
  t.same(namesOf(both.headers['set-cookie']).sort(), ['__Host-oidc', '__Host-oidc-tokens-0', 'first', 'second'])
  const hijacked = await get(app, '/hijacked-too', cookie)
  t.same(namesOf(hijacked.headers['set-cookie']), ['raw', '__Host-oidc'])
  clock.advance(TTL)
  const late = await get(app, '/too-late', both.cookie)
  t.equal(late.status, 200, 'a response that has begun does not fail')
  const left = await app.inject({ url: '/leave', headers: { cookie: both.cookie } })
  const lines = [left.headers['set-cookie'] ?? []].flat()
  const names = namesOf(lines).filter((name) => !name.includes('-login-'))
  t.same(names.sort(), ['__Host-oidc', '__Host-oidc-tokens-0', 'first'])
  t.ok(lines.filter((line) => line.startsWith('__Host')).every((line) => line.includes('Max-Age=0')), 'and only removals')
})

t.test('K17 a session that ends in the middle of a request is not brought back by what was set early', async (t) => {
  const { app, clock, cookie } = await start(t, {}, {}, (app) => {
    app.get('/ends', { preHandler: app.oidc.required() }, async ({ oidcSession }) => {
      return await app.oidc.sessions.revoke({ id: oidcSession?.id as string })
    })
  })
  clock.advance(DAY / 10)
  const { headers } = await app.inject({ url: '/ends', headers: { cookie } })
  t.equal(headers['set-cookie'], undefined)
})

t.test('R32 K11 at most 10,000 results are kept without a store, and the oldest go first', async (t) => {
  const kept = createKeptTokens(undefined)
  const provider = { id: 'provider' } as unknown as OpenIdProvider
  const tokens = (number: number) => ({ access_token: `old ${number}`, token_type: 'bearer', refresh_token: `r${number}` })
  const fresh = (number: number) => ({
    tokens: { ...tokens(number), access_token: `new ${number}`, refresh_token: `next ${number}` }, claims: undefined
  })
  const isKept = async (number: number): Promise<boolean> => {
    return (await kept.follow(provider, tokens(number))).fresh !== undefined
  }
  for (let number = 0; number < 10_000; number++) await kept.keep(provider, tokens(number), fresh(number))
  t.same([await isKept(0), await isKept(9999)], [true, true])
  await kept.keep(provider, tokens(10_000), fresh(10_000))
  t.same([await isKept(0), await isKept(1), await isKept(10_000)], [false, true, true])
})

t.test('R32 at most 10,000 names of tokens that the browser has are remembered', async (t) => {
  let asked = 0
  const get = async (): Promise<null> => {
    asked += 1
    return null
  }
  const kept = createKeptTokens({ get } as unknown as SealedStore)
  for (let number = 0; number < 10_000; number++) await kept.received(`name ${number}`)
  await kept.received('name 0')
  t.equal(asked, 10_000)
  await kept.received('one more')
  await kept.received('name 1')
  t.equal(asked, 10_001)
  await kept.received('name 0')
  t.equal(asked, 10_002, 'past the limit the oldest is looked for again')
})

t.test('R19 K11 a provider whose refresh tokens turn in a circle makes no endless work', async (t) => {
  const clock = stopClock(t)
  const kept = createKeptTokens(undefined)
  const provider = { id: 'provider' } as unknown as OpenIdProvider
  const expiresAt = Math.floor(Date.now() / 1000) + 10
  const tokens = (name: string) => ({
    access_token: name, token_type: 'bearer', refresh_token: name, expires_at: expiresAt
  })
  await kept.keep(provider, tokens('a'), { tokens: tokens('b'), claims: undefined })
  await kept.keep(provider, tokens('b'), { tokens: tokens('a'), claims: undefined })
  clock.advance(10)
  t.match(await kept.follow(provider, tokens('a')), { last: { access_token: 'a' } })
  t.match(await kept.take(provider, tokens('a')), { access_token: 'a' })
  t.match(await kept.follow(provider, tokens('a')), { fresh: undefined, last: { access_token: 'a' } })
})
