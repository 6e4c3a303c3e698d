import t from 'tap'
import { OidcError } from '../../lib/errors.ts'
import { createOpaqueTokens } from '../../lib/guard/opaque-tokens.ts'
import { BASE_URL, logIn, startApp, stopClock } from '../support/app.ts'
import { API, call, identity, start } from '../support/bearer.ts'
import { times } from '../support/crowd.ts'
import { captureLog } from '../support/protocol.ts'
import type { FastifyRequest, LightMyRequestResponse } from 'fastify'
import type { BearerOptions } from '../../index.ts'
import type { BearerSettings } from '../../lib/options/bearer.ts'
import type { Providers } from '../../lib/provider/providers.ts'

t.test('S73 introspection verifies opaque tokens', async (t) => {
  let refreshToken = ''
  const { app, provider, send } = await start(
    t,
    { introspection: true },
    {
      offlineAccess: true,
      onClaims: (_claims, { tokens }) => {
        refreshToken = tokens.refresh_token as string
      }
    }
  )
  const browser = await logIn({ app, provider }, 'alice')
  const token = (await browser.fetch('/token')).text()
  let answer: Record<string, unknown> = {}
  provider.fault({
    on: 'introspection',
    answer: (given) => {
      given.body = JSON.stringify({ ...JSON.parse(String(given.body)), aud: undefined, ...answer })
    }
  })
  const asked = (): number => provider.count('introspection')
  const introspect = async (more: Record<string, unknown>, text = token): Promise<LightMyRequestResponse> => {
    answer = more
    return await send(`Bearer ${text}`)
  }
  t.match(
    (await introspect({}, refreshToken)).json(),
    { code: 'FST_OIDC_TOKEN' },
    'an active refresh token is not an access token'
  )
  t.equal(asked(), 1)
  const bad: Array<Record<string, unknown>> = [
    { active: false },
    { active: 'true' },
    { active: 1 },
    { aud: 'other' },
    { aud: ['other'] },
    { aud: null },
    { client_id: 'other' },
    { iss: 'https://evil.test' },
    { aud: API, token_type: 'Refresh' },
    { aud: API, token_type: 'N_A' },
    { token_type: undefined },
    { token_type: ['Bearer'] },
    { exp: 1 },
    { exp: 'x' },
    { exp: null },
    { nbf: 9e9 },
    { nbf: 'x' }
  ]
  for (const [index, more] of bad.entries()) {
    t.match(
      (await introspect({ active: true, ...more }, `bad${index}`)).json(),
      { code: typeof (more['active'] ?? true) === 'boolean' ? 'FST_OIDC_TOKEN' : 'FST_OIDC_PROVIDER_RESPONSE' },
      JSON.stringify(more)
    )
  }
  const good = await introspect({ nbf: 1 })
  t.match(
    [good.statusCode, good.json()],
    [200, { sub: 'alice', token: { clientId: 'web', isClient: false } }],
    'a token for this client needs no audience'
  )
  t.match(provider.requests.filter(({ endpoint }) => endpoint === 'introspection').at(-1), {
    body: { token, token_type_hint: 'access_token' },
    headers: { authorization: /^Basic / }
  })
  const count = asked()
  for (let more = 0; more < 20; more++) t.equal((await introspect({ active: false })).statusCode, 200)
  t.equal(asked(), count, 'the response is cached')
  t.equal((await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, { app, sub: 'alice' })).status, 200)
  t.equal((await introspect({ active: false })).statusCode, 401, 'a logout clears the cached response')
  t.match(
    (await introspect({ active: true, aud: API, client_id: 'other', sub: 'bob' }, 'another')).json(),
    { sub: 'bob' },
    'a token for another client needs the audience of this API'
  )

  provider.fault({ on: 'introspection', status: 500 })
  t.match(
    [(await send('Bearer third')).statusCode, (await send('Bearer third')).json().code],
    [503, 'FST_OIDC_PROVIDER_UNAVAILABLE']
  )
  provider.clearFaults()
  t.equal((await send('Bearer third')).statusCode, 401, 'a failure is not cached')
})

t.test('S73 an introspection response is cached until exp and for no longer than introspectionMaxAge', async (t) => {
  const clock = stopClock(t)
  const { provider, send } = await start(t, { introspection: 'default', introspectionMaxAge: 60 })
  const at = (): number => Math.floor(Date.now() / 1000)
  let body: Record<string, unknown> = { active: true, aud: API, sub: 'alice', client_id: 'x', exp: at() + 20 }
  provider.fault({ on: 'introspection', answer: (given) => { given.body = JSON.stringify(body) } })
  t.equal((await send('Bearer opaque')).statusCode, 200)
  clock.advance(21)
  t.equal((await send('Bearer opaque')).statusCode, 401)
  body = { active: true, aud: API, sub: 'alice', client_id: 'x' }
  t.match((await send('Bearer other')).json(), { token: { expiresAt: at() + 3600 } })
  body = { active: false }
  clock.advance(59)
  t.equal((await send('Bearer other')).statusCode, 200)
  clock.advance(1)
  t.equal((await send('Bearer other')).statusCode, 401)
  const without = await start(t)
  t.equal((await without.send('Bearer opaque')).statusCode, 401, 'without introspection no request is sent')
  t.equal(without.provider.count('introspection'), 0)
  const { app: lacking, provider: poor } = await startApp(
    t,
    { bearer: { audience: API, introspection: true } },
    { metadata: { introspection_endpoint: undefined } }
  )
  t.ok(poor)
  t.equal((await lacking.inject({ url: '/me', headers: { authorization: 'Bearer opaque' } })).statusCode, 502)
})

t.test('R10 S73 an introspection response does not last longer when the clock is set back', async (t) => {
  const clock = stopClock(t)
  const { provider, send } = await start(t, { introspection: 'default', introspectionMaxAge: 60 })
  let active = true
  provider.fault({
    on: 'introspection',
    answer: (given) => { given.body = JSON.stringify({ active, aud: API, sub: 'alice', client_id: 'x' }) }
  })
  t.equal((await send('Bearer opaque')).statusCode, 200)
  active = false
  clock.advance(-3600)
  t.equal((await send('Bearer opaque')).statusCode, 200, 'an answer of this minute')
  clock.advance(59)
  t.equal((await send('Bearer opaque')).statusCode, 200)
  clock.advance(2)
  t.equal((await send('Bearer opaque')).statusCode, 401, 'the token was revoked')
  clock.advance(3600)
  t.equal((await send('Bearer opaque')).statusCode, 401)
})

t.test('S72 an introspection response must describe an access token of a subject', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API, introspection: true } })
  app.get('/api', { preHandler: app.oidc.required() }, identity)
  let body: Record<string, unknown> = {}
  provider.fault({
    on: 'introspection',
    answer: (given) => {
      given.body = JSON.stringify({ active: true, aud: [API], sub: 'alice', client_id: 'web', ...body })
    }
  })
  let count = 0
  const introspect = async (answer: Record<string, unknown>): Promise<number> => {
    body = answer
    return (await call(app, '/api', `opaque${count++}`)).status
  }
  for (const good of [
    {},
    { token_type: 'Bearer' },
    { token_use: 'access_token' },
    { token_use: 'access', typ: 'Bearer' },
    { typ: 'JWT' }
  ]) { t.equal(await introspect(good), 200, JSON.stringify(good)) }
  const bad = [
    { token_use: 'refresh_token' },
    { token_use: 'id' },
    { token_use: null },
    { typ: 'Refresh' },
    { typ: 'Offline' },
    { typ: 'ID' },
    { token_type: 'Bearer', typ: 'Refresh' },
    ...[null, '', 5, ['alice'], {}].map((sub) => ({ sub }))
  ]
  for (const answer of bad) t.equal(await introspect(answer), 401, JSON.stringify(answer))
})

t.test('K8 introspection responses as Ory Hydra, Authelia and Django OAuth Toolkit send them', async (t) => {
  const at = Math.floor(Date.now() / 1000)
  const startWith = async (bearer: Partial<BearerOptions> = {}) => {
    const { app, provider } = await startApp(t, { bearer: { audience: API, introspection: true, ...bearer } })
    app.get('/api', { preHandler: app.oidc.required() }, identity)
    let body: Record<string, unknown> = {}
    provider.fault({ on: 'introspection', answer: (given) => { given.body = JSON.stringify(body) } })
    let count = 0
    return async (response: Record<string, unknown>): Promise<Awaited<ReturnType<typeof call>>> => {
      body = { active: true, sub: 'alice', ...response }
      return await call(app, '/api', `opaque${count++}`)
    }
  }
  const ask = await startWith()
  const own = { client_id: 'web', token_type: 'Bearer' }
  for (const good of [
    { ...own, aud: [] },
    { ...own, aud: '' },
    own,
    { client_id: 'web', aud: [], token_use: 'access_token' },
    { client_id: 'web', token_type: 'access_token' },
    { client_id: 'other', aud: ['x', API], exp: String(at + 60), nbf: String(at - 60), iat: String(at - 60) }
  ]) t.equal((await ask(good)).status, 200, JSON.stringify(good))
  const times = { ...own, aud: API, exp: String(at + 60), auth_time: String(at) }
  t.match((await ask(times)).body, { token: { expiresAt: at + 60, authTime: at }, claims: { exp: at + 60 } })

  for (const bad of [
    { ...own, client_id: 'other', aud: [] },
    { ...own, client_id: 'other', aud: '' },
    { ...own, client_id: undefined },
    { ...own, aud: ['', 'other'] },
    { ...own, aud: 'other' },
    { client_id: 'web', aud: [] },
    { client_id: 'web', aud: [], token_use: 'refresh_token' },
    { client_id: 'web', token_type: 'refresh_token' },
    { ...own, exp: String(at - 60) },
    { ...own, exp: '' },
    { ...own, exp: '9e9' },
    { ...own, nbf: String(at + 600) },
    { ...own, at_hash: 'x' },
    { ...own, events: {} }
  ]) t.equal((await ask(bad)).status, 401, JSON.stringify(bad))

  const optional = await startWith({ introspectionAudience: 'optional' })
  for (const good of [{ client_id: 'other' }, { client_id: 'other', aud: [] }, { token_type: 'Bearer' }, {}]) {
    t.equal((await optional(good)).status, 200, JSON.stringify(good))
  }
  for (const bad of [
    { client_id: 'web', aud: 'other' },
    { client_id: 'other', aud: null },
    { token_type: 'refresh_token' },
    { token_use: 'refresh_token' },
    { typ: 'Refresh' },
    { active: false },
    { iss: 'https://evil.test' },
    { exp: 1 }
  ]) t.equal((await optional(bad)).status, 401, JSON.stringify(bad))
})

t.test('R3 a provider that answers an introspection with 429 is left alone, and kept answers still count', async (t) => {
  const clock = stopClock(t)
  const { provider, send } = await start(t, { introspection: true })
  provider.fault({
    on: 'introspection',
    answer: (given) => { given.body = JSON.stringify({ active: true, aud: API, sub: 'alice', client_id: 'x' }) }
  })
  const ask = async (token: string): Promise<unknown[]> => {
    const { statusCode, headers } = await send(`Bearer ${token}`)
    return [statusCode, headers['retry-after'], provider.count('introspection')]
  }
  t.same(await ask('known'), [200, undefined, 1])
  const off = provider.fault({ on: 'introspection', status: 429, headers: { 'retry-after': '7' } })
  t.same(await ask('second'), [503, '7', 2])
  t.same([await ask('third'), await ask('second')], [[503, '7', 2], [503, '7', 2]], 'it is not asked')
  t.same(await ask('known'), [200, undefined, 2])
  off()
  clock.advance(5)
  t.same([await ask('known'), await ask('third')], [[200, undefined, 2], [503, '2', 2]])
  clock.advance(2)
  t.same(await ask('third'), [200, undefined, 3])

  const offAgain = provider.fault({ on: 'introspection', status: 429, headers: { 'retry-after': '3600' } })
  t.same(await ask('fourth'), [503, '3600', 4])
  offAgain()
  t.same(await ask('fourth'), [503, '60', 4], 'at most for a minute')
  clock.advance(-86_400)
  t.same(await ask('fourth'), [200, undefined, 5], 'R10 a clock that is set back')
})

t.test('R9 after a logout the tokens of its user are introspected again, and those of others are not', async (t) => {
  const { app, provider, send } = await start(t, { introspection: true, introspectionMaxAge: 300 })
  provider.options.accessTokenAudience = API
  const tokenOf = async (sub: string): Promise<string> =>
    (await (await logIn({ app, provider }, sub)).fetch('/token')).text()
  const [alice, bob] = [await tokenOf('alice'), await tokenOf('bob')]
  const statuses = async (): Promise<number[]> =>
    [(await send(`Bearer ${alice}`)).statusCode, (await send(`Bearer ${bob}`)).statusCode]
  t.same([await statuses(), provider.count('introspection')], [[200, 200], 2])
  provider.fault({ on: 'introspection', status: 429 })
  const url = `${BASE_URL}/auth/backchannel-logout`
  t.equal((await provider.sendLogoutToken(url, { app, sub: 'alice' })).status, 200)
  t.same(await statuses(), [503, 200], 'a provider that answers 429 keeps no other user out')
  t.equal((await provider.sendLogoutToken(url, { app, sid: 'of a user that is not named' })).status, 200)
  t.same(await statuses(), [503, 503])
})

interface Introspecting {
  verify: (token: string) => Promise<unknown>
  asked: () => number
  mostAtOnce: () => number
  /** Makes all tokens inactive. */
  endAll: () => void
}

function startIntrospecting (introspectionMaxAge = 10): Introspecting {
  let [asked, running, mostAtOnce, isActive] = [0, 0, 0, true]
  const provider = {
    id: 'provider',
    async introspect () {
      asked += 1
      running += 1
      mostAtOnce = Math.max(mostAtOnce, running)
      // No timer runs meanwhile: none of those that wait has waited too long, also where other work shares the cores.
      await Promise.resolve()
      running -= 1
      if (!isActive) throw new OidcError('FST_OIDC_TOKEN')
      return { sub: 'alice' }
    }
  }
  const tokens = createOpaqueTokens(
    { introspection: 'default', introspectionMaxAge } as BearerSettings,
    { find: async () => provider } as unknown as Providers
  )
  return {
    verify: async (token) =>
      await tokens.verify(token, {} as FastifyRequest, undefined).catch((error: unknown) => error),
    asked: () => asked,
    mostAtOnce: () => mostAtOnce,
    endAll: () => { isActive = false }
  }
}

t.test('R9 R32 introspections of unknown tokens are limited, and tokens that were active have no limit', async (t) => {
  const clock = stopClock(t)
  const { verify, asked, mostAtOnce, endAll } = startIntrospecting()
  const flooded = { code: 'FST_OIDC_PROVIDER_UNAVAILABLE', kind: 'flood', level: 'info', retryAfter: 1 }
  let tokens = 0
  const flood = async (count: number): Promise<unknown[]> =>
    await Promise.all(times(count, async () => await verify(`token-${tokens++}`)))

  const outcomes = await flood(2000)
  t.equal(asked(), 500, 'so many at once')
  t.ok(mostAtOnce() <= 50, `${mostAtOnce()} at the same time`)
  t.match(outcomes.slice(500), times(1500, () => flooded))
  t.match(outcomes.slice(0, 500), times(500, () => ({ payload: { sub: 'alice' } })))
  clock.advance(1)
  await flood(1000)
  t.equal(asked(), 600, 'and a hundred per second')

  clock.advance(10)
  await flood(1000)
  const before = asked()
  t.match(await Promise.all(times(500, async (index) => await verify(`token-${index}`))), times(500, () => ({ payload: {} })))
  t.equal(asked(), before + 500, 'tokens that were active are asked about again')
  t.match(await verify('unknown'), flooded)

  for (let round = 0; round < 20; round++) {
    clock.advance(5)
    await flood(500)
  }
  clock.advance(10)
  const newest = tokens - 1
  await flood(1000)
  t.match(await verify(`token-${newest}`), { payload: {} })
  t.match(await verify('token-0'), flooded, 'ten thousand are remembered')

  endAll()
  clock.advance(10)
  t.match(await verify(`token-${newest}`), { code: 'FST_OIDC_TOKEN' })
  clock.advance(11)
  await flood(2000)
  t.match(await verify(`token-${newest}`), flooded, 'a token that is not active any more is as an unknown one')
})

t.test('R4 claims with too many levels are refused, wherever they come from', async (t) => {
  const deep = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels)
  const { app, provider, send, sendToken } = await start(t, { introspection: true })
  const introspected = async (levels: number): Promise<[status: number, code: unknown]> => {
    const off = provider.fault({
      on: 'introspection',
      answer: (given) => {
        given.status = 200
        given.body = `{"active":true,"sub":"alice","aud":"${API}","token_type":"Bearer","x":${deep(levels)}}`
      }
    })
    const { statusCode, body } = await send(`Bearer opaque-${levels}`)
    off()
    return [statusCode, JSON.parse(body).code]
  }
  t.same(await introspected(99), [200, undefined])
  t.same(await introspected(100), [401, 'FST_OIDC_TOKEN'])
  t.same(await introspected(100_000), [401, 'FST_OIDC_TOKEN'])
  t.equal((await sendToken({ overrides: { x: JSON.parse(deep(99)) } })).statusCode, 200)
  t.equal((await sendToken({ overrides: { x: JSON.parse(deep(100)) } })).statusCode, 401)

  const browser = await logIn({ app, provider }, 'alice')
  for (const [levels, status] of [[99, 200], [100, 403], [100_000, 403]] as const) {
    const off = provider.fault({
      on: 'userinfo',
      answer: (given) => { given.body = `{"sub":"alice","x":${deep(levels)}}` }
    })
    const { status: found, json } = await browser.fetch('/auth/userinfo')
    t.equal(found, status, `UserInfo with ${levels} levels`)
    if (status === 403) t.match(json(), { code: 'FST_OIDC_CLAIMS' })
    off()
  }

  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, x: JSON.parse(deep(100)) }) })
  await t.rejects(logIn({ app, provider }, 'alice'), /403.*FST_OIDC_ID_TOKEN/)
})

t.test('V38 S80 an access token that fits into no header is in no log line', async (t) => {
  const { lines, server } = captureLog()
  const { provider, browser } = await startApp(t, { userinfo: true }, {}, server)
  for (const end of ['\nx', '\u0000x', '\u007fx', '\u20acx', '"x"\n"y']) {
    const off = provider.fault({
      on: 'token',
      idToken: ({ at_hash: _, ...claims }) => claims,
      tokenResponse: (given) => ({ ...given, access_token: `SECRET-TOKEN${end}` })
    })
    t.ok([502, 503].includes((await browser.goto('/auth/login')).status))
    off()
  }
  t.match(lines(), 'is an invalid header value')
  t.notMatch(lines(), 'SECRET-TOKEN')
})

t.test('R32 at most ten thousand answers are kept', async (t) => {
  const clock = stopClock(t)
  const { verify, asked } = startIntrospecting(300)
  for (let count = 0; count < 10_000; count++) {
    if (count % 400 === 0) clock.advance(4)
    await verify(`token-${count}`)
  }
  await verify('token-0')
  t.equal(asked(), 10_000)
  await verify('one more')
  await verify('token-1')
  t.equal(asked(), 10_001)
  await verify('token-0')
  t.equal(asked(), 10_002, 'past the limit the oldest is asked for again')
})
