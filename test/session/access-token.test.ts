import t from 'tap'
import { decodeJwt } from 'jose'
import { client, faults } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, logIn, optionsFor, SESSION_KEY, startApp, stopClock } from '../support/app.ts'
import { randomText } from '../support/enlarge.ts'
import { createGate } from '../support/gate.ts'
import { until } from '../support/until.ts'
import { keyBytes } from '../support/keys.ts'
import type { FastifyInstance, FastifyRequest, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'
import type { Fault, FaultName, Provider, ProviderOptions } from '../../lib/testing/index.ts'

t.setTimeout(300_000) // where other work shares the cores

const NAME = '__Host-oidc'
const TTL = 3600

interface World {
  app: FastifyInstance
  provider: Provider
  clock: ReturnType<typeof stopClock>
  /** The token responses, newest first. */
  issued: Array<Record<string, unknown>>
}

/** An application whose `/token` answers with the access token, and a clock to let it expire. */
async function start (
  t: Test,
  options: Partial<OidcOptions> = {},
  providerOptions: ProviderOptions = {}
): Promise<World> {
  const clock = stopClock(t)
  const { app, provider } = await startApp(
    t,
    { offlineAccess: true, timeout: 30, session: { key: SESSION_KEY, idleTimeout: 28_800 }, ...options },
    providerOptions
  )
  app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
  const issued: World['issued'] = []
  provider.fault({ on: 'token', tokenResponse: (answer) => { issued.unshift(structuredClone(answer)) } })
  return { app, provider, clock, issued }
}

async function get (app: FastifyInstance, url: string, cookie: string): Promise<LightMyRequestResponse> {
  return await app.inject({ url, headers: { cookie } })
}

function setCookiesOf ({ headers }: LightMyRequestResponse): string[] {
  return [headers['set-cookie'] ?? []].flat()
}

/** What a browser with this Cookie header would send after the response. */
function after (cookie: string, response: LightMyRequestResponse): string {
  const jar = new Map(cookie.split('; ').map((pair) => [pair.slice(0, pair.indexOf('=')), pair] as const))
  for (const line of setCookiesOf(response)) {
    const pair = line.split(';', 1)[0] as string
    const name = pair.slice(0, pair.indexOf('='))
    if (line.includes('Max-Age=0;')) jar.delete(name)
    else jar.set(name, pair)
  }
  return [...jar.values()].join('; ')
}

function refreshes (provider: Provider) {
  return provider.requests.filter(
    ({ endpoint, body }) => endpoint === 'token' && body['grant_type'] === 'refresh_token'
  )
}

t.test('C21 S58 a token is refreshed a little before it expires', async (t) => {
  const { app, provider, clock, issued } = await start(t)
  const browser = await logIn({ app, provider }, 'alice')
  const first = issued[0] as Record<string, unknown>
  t.same((await browser.goto('/token')).json(), { token: first['access_token'] })
  clock.advance(TTL - 31)
  const page = await browser.goto('/token')
  t.same([page.json(), page.history[0]?.setCookie], [{ token: first['access_token'] }, []])
  t.equal(refreshes(provider).length, 0)

  clock.advance(1)
  const renewed = await browser.goto('/token')
  t.equal(refreshes(provider).length, 1)
  t.match(refreshes(provider)[0], {
    method: 'POST',
    body: { refresh_token: first['refresh_token'] },
    headers: { authorization: /^Basic / }
  })
  t.not(issued[0]?.['access_token'], first['access_token'])
  t.same(renewed.json(), { token: issued[0]?.['access_token'] })
  t.same(renewed.history[0]?.setCookie.map((line) => line.split('=', 1)[0]), [NAME, `${NAME}-tokens-0`])
  t.equal(renewed.headers.get('cache-control'), 'no-store')
  t.notMatch(renewed.history[0]?.setCookie.join(), String(issued[0]?.['access_token']), 'sealed')

  t.same((await browser.goto('/token')).json(), renewed.json(), 'saved, so it is not refreshed again')
  await browser.goto('/auth/userinfo')
  t.equal(
    provider.requests.find(({ endpoint }) => endpoint === 'userinfo')?.headers['authorization'],
    `Bearer ${String(issued[0]?.['access_token'])}`,
    'UserInfo is asked with the new token'
  )
  t.equal(refreshes(provider).length, 1)

  clock.advance(TTL - 30)
  const second = issued[0] as Record<string, unknown>
  t.equal((await browser.goto('/token')).status, 200)
  t.equal(refreshes(provider)[1]?.body['refresh_token'], second['refresh_token'], 'the rotated refresh token was saved')
  t.not(second['refresh_token'], first['refresh_token'])
  const page2 = await browser.post('/auth/logout', '', { until: ({ pathname }) => pathname === '/end-session' })
  t.equal(
    page2.form?.action.searchParams.get('id_token_hint'),
    issued[0]?.['id_token'],
    'and the newest ID token'
  )
})

t.test('S58 a provider that does not rotate, and one that sends no new ID token', async (t) => {
  const { app, provider, clock, issued } = await start(t, {}, { rotateRefreshTokens: false })
  const browser = await logIn({ app, provider }, 'alice')
  const { refresh_token: refreshToken, id_token: idToken } = issued[0] as Record<string, unknown>
  provider.fault({ on: 'token', tokenResponse: (answer) => { delete answer.id_token } })
  for (const count of [1, 2]) {
    clock.advance(TTL - 20)
    t.same((await browser.goto('/token')).json(), { token: issued[0]?.['access_token'] })
    t.equal(refreshes(provider).length, count)
    t.equal(refreshes(provider).at(-1)?.body['refresh_token'], refreshToken)
  }
  const page = await browser.post('/auth/logout', '', { until: ({ pathname }) => pathname === '/end-session' })
  t.equal(
    page.form?.action.searchParams.get('id_token_hint'),
    idToken,
    'the ID token that there was is kept'
  )
})

t.test('C56 access tokens without expires_in', async (t) => {
  const { app, provider, clock, issued } = await start(t)
  const browser = await logIn({ app, provider }, 'alice')
  provider.fault(faults['token-endpoint-response-without-expires_in'])
  clock.advance(TTL)
  for (let count = 0; count < 3; count++) {
    t.same((await browser.goto('/token')).json(), { token: issued[0]?.['access_token'] })
  }
  t.equal(refreshes(provider).length, 1, 'the end of the old token is not that of the new one')

  const other = await logIn({ app, provider }, 'bob')
  clock.advance(TTL - 1)
  t.same((await other.goto('/token')).json(), { token: issued[0]?.['access_token'] })
  t.equal(refreshes(provider).length, 1, 'what may be good is used')
})

t.test('without a refresh token an access token is used until it expires', async (t) => {
  const { app, provider, clock, issued } = await start(t, { offlineAccess: false })
  const browser = await logIn({ app, provider }, 'alice')
  clock.advance(TTL - 1)
  t.same((await browser.goto('/token')).json(), { token: issued[0]?.['access_token'] })
  clock.advance(1)
  const page = await browser.goto('/token')
  t.match([page.status, page.json()], [401, { code: 'FST_OIDC_LOGIN_REQUIRED' }])
  t.equal(provider.count('token'), 1)
  t.equal((await browser.goto('/me')).status, 200, 'the claims are known without it')

  for (const tokens of [[], ['refresh_token', 'id_token']] as const) {
    const none = await buildApp(t, optionsFor(provider, { session: { key: SESSION_KEY, tokens: [...tokens] } }))
    none.get('/token', async (request) => ({ token: await none.oidc.accessToken(request) }))
    const kept = await logIn({ app: none, provider }, 'alice')
    t.match((await kept.goto('/token')).json(), { code: 'FST_OIDC_LOGIN_REQUIRED' }, 'what is not kept cannot be used')
    t.equal((await kept.goto('/me')).status, 200)
  }
  const nobody = await client({ app, baseUrl: BASE_URL }).goto('/token')
  t.match([nobody.status, nobody.json()], [401, { code: 'FST_OIDC_LOGIN_REQUIRED' }])
})

t.test('R27 V16 a hundred requests at once refresh once', async (t) => {
  const { app, provider, clock, issued } = await start(t)
  const browser = await logIn({ app, provider }, 'alice')
  const cookie = browser.cookies.header('/')
  clock.advance(TTL - 10)
  provider.fault({ on: 'token', delay: 50 })
  const responses = await Promise.all(Array.from({ length: 100 }, async () => await get(app, '/token', cookie)))
  t.equal(refreshes(provider).length, 1)
  for (const response of responses) {
    t.same([response.statusCode, response.json()], [200, { token: issued[0]?.['access_token'] }])
  }
  t.ok(
    responses.every((response) => setCookiesOf(response).length === 2),
    'each writes what it got, whichever the browser takes last'
  )

  clock.advance(50)
  t.same(
    (await get(app, '/token', cookie)).json(),
    { token: issued[0]?.['access_token'] },
    'a straggler with the old cookie gets the same'
  )
  for (const response of [responses[0], responses[99]] as LightMyRequestResponse[]) {
    const next = await get(app, '/token', after(cookie, response))
    t.same([next.json(), setCookiesOf(next)], [{ token: issued[0]?.['access_token'] }, []])
  }
  t.equal(refreshes(provider).length, 1)
})

t.test('R27 K11 the result of a refresh is for everybody with the old cookies, until the new ones have come', async (t) => {
  const { app, provider, clock } = await start(t)
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header('/')
  clock.advance(TTL)
  let response
  for (let minutes = 0; minutes < 50; minutes += 10) {
    response = await get(app, '/token', cookie)
    t.equal(response.statusCode, 200)
    clock.advance(600)
  }
  t.equal(refreshes(provider).length, 1)
  t.equal((await get(app, '/token', after(cookie, response as LightMyRequestResponse))).statusCode, 200)
  clock.advance(60)
  // From here on it is a refresh token that was used: the provider takes it for a stolen one.
  t.equal((await get(app, '/token', cookie)).statusCode, 401)
  t.equal(refreshes(provider).length, 2)
})

t.test('R27 a shared token that expires within the minute is not used after that', async (t) => {
  const { app, provider, clock, issued } = await start(t, {}, { accessTokenTtl: 40, rotateRefreshTokens: false })
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header('/')
  clock.advance(40)
  t.same((await get(app, '/token', cookie)).json(), { token: issued[0]?.['access_token'] })
  clock.advance(41)
  t.same((await get(app, '/token', cookie)).json(), { token: issued[0]?.['access_token'] })
  t.equal(refreshes(provider).length, 2)
})

t.test('S58 R3 a temporary failure of the provider does not end the session', async (t) => {
  const { app, provider, clock, issued } = await start(t, { timeout: 5 }, { rotateRefreshTokens: false })
  const failures: Array<[fault: FaultName | Fault, status: number, code: string]> = [
    ['token-503', 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['token-429', 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['token-500', 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['token-hang', 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['token-reset', 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['token-403', 502, 'FST_OIDC_PROVIDER_RESPONSE'],
    ['token-html', 502, 'FST_OIDC_PROVIDER_RESPONSE'],
    ['token-redirect', 502, 'FST_OIDC_PROVIDER_RESPONSE'],
    [
      {
        on: 'token',
        status: 401,
        headers: { 'content-type': 'application/json', 'www-authenticate': 'Basic' },
        body: '{"error":"invalid_client"}'
      },
      503,
      'FST_OIDC_CLIENT_AUTHENTICATION'
    ],
    [
      {
        on: 'token',
        status: 400,
        headers: { 'content-type': 'application/json' },
        body: '{"error":"temporarily_unavailable"}'
      },
      502,
      'FST_OIDC_PROVIDER_RESPONSE'
    ]
  ]
  for (const [fault, status, code] of failures) {
    const title = JSON.stringify(fault)
    const browser = await logIn({ app, provider }, 'alice')
    const token = issued[0]?.['access_token']
    clock.advance(TTL - 20)
    const clear = provider.fault(typeof fault === 'string' ? faults[fault] : fault)
    t.same((await browser.goto('/token')).json(), { token }, `${title}: the token that is still good`)
    clock.advance(20)
    const page = await browser.goto('/token')
    t.match([page.status, page.json().code], [status, code], title)
    t.same(page.history[0]?.setCookie, [], `${title}: nothing is written`)
    t.equal((await browser.goto('/auth/session')).status, 200, title)
    t.equal((await browser.goto('/auth/userinfo')).status, status, title)
    clear()
    clock.advance(10)
    t.same((await browser.goto('/token')).json(), { token: issued[0]?.['access_token'] }, `${title}: over`)
  }
})

t.test('R31 a failed refresh is shared for five seconds', async (t) => {
  const { app, provider, clock, issued } = await start(t)
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header('/')
  const clear = provider.fault(faults['token-503'])
  clock.advance(TTL - 10)
  const responses = await Promise.all(Array.from({ length: 30 }, async () => await get(app, '/token', cookie)))
  t.ok(responses.every(({ statusCode }) => statusCode === 200))
  t.equal(refreshes(provider).length, 1)
  clear()
  clock.advance(4)
  t.equal((await get(app, '/token', cookie)).statusCode, 200)
  t.equal(refreshes(provider).length, 1, 'a provider that has failed is left alone for a moment')
  clock.advance(1)
  t.same((await get(app, '/token', cookie)).json(), { token: issued[0]?.['access_token'] })
  t.equal(refreshes(provider).length, 2)
})

t.test('S42 R11 a refresh token that the provider refuses ends the session', async (t) => {
  const ended: unknown[] = []
  const { app, provider, clock } = await start(t, { onLogout: ({ id }, { reason }) => { ended.push([id, reason]) } })
  for (const [title, left, refuse] of [
    ['revoked', 0, () => { provider.fault(faults['refresh-token-revoked']) }],
    ['revoked, while the access token is good', 10, () => { provider.fault(faults['refresh-token-revoked']) }],
    ['the provider lost its memory', 0, () => { provider.forget() }]
  ] as const) {
    provider.clearFaults()
    const browser = await logIn({ app, provider }, 'alice')
    const { session: { id } } = (await browser.goto('/me')).json()
    const cookie = browser.cookies.header('/')
    clock.advance(TTL - left)
    refuse()
    ended.length = 0
    const before = refreshes(provider).length
    const responses = await Promise.all(Array.from({ length: 20 }, async () => await get(app, '/token', cookie)))
    for (const response of responses) {
      t.match([response.statusCode, response.json().code], [401, 'FST_OIDC_LOGIN_REQUIRED'], title)
    }
    t.same(
      responses.flatMap(setCookiesOf).map((line) => line.split('; ').slice(0, 2).join(';')),
      [`${NAME}=;Max-Age=0`, `${NAME}-tokens-0=;Max-Age=0`],
      title
    )
    t.equal(refreshes(provider).length - before, 1, `${title}: asked once`)
    t.same(ended, [[id, 'refresh_failed']], `${title}: and told once`)
    t.equal((await get(app, '/me', cookie)).statusCode, 401, `${title}: a copy of the cookies is dead too`)
    t.equal(
      (await browser.goto('/me', { until: ({ origin }) => origin === provider.url })).status,
      302,
      `${title}: a person logs in again`
    )
  }
})

/** The tokens that were revoked at the provider. */
function revoked (provider: Provider): unknown[] {
  return provider.requests.filter(({ endpoint }) => endpoint === 'revocation').map(({ body }) => body['token'])
}

t.test('C22 C23 S59 K7 a refreshed ID token of another user or login, or a forged one, ends the session', async (t) => {
  const wrong: Array<FaultName | Fault> = [
    'refresh-token-invalid-issuer', 'refresh-token-invalid-sub', 'refresh-token-invalid-aud',
    'refresh-token-invalid-nonce', 'refresh-token-invalid-auth-time', 'sig-other-key', 'sig-none-mixed-case',
    'sig-hs256-public-pem', 'at-hash-invalid', 'typ-logout-token', 'token-response-id-token-garbage',
    // A wrong clock must not hide it.
    { on: 'token', idToken: (claims) => ({ ...claims, exp: 1, sub: 'bob' }) },
    { on: 'token', idToken: (claims) => ({ ...claims, exp: 1, nonce: 'another' }) },
    { on: 'token', idToken: (claims) => ({ ...claims, exp: 1, aud: 'stranger' }) },
    { on: 'token', idToken: (claims) => ({ ...claims, exp: 1 }), signWith: 'other-key' },
    { on: 'token', idToken: (claims) => ({ ...claims, nonce: 42 }) },
    { on: 'token', tokenResponse: (answer) => ({ ...answer, id_token: 42 }) }
  ]
  for (const rotateRefreshTokens of [true, false]) {
    const { app, provider, clock, issued } = await start(t, {}, { rotateRefreshTokens })
    for (const fault of wrong) {
      const title = `${JSON.stringify(fault)} ${String(typeof fault === 'string' ? '' : wrong.indexOf(fault))}`
      const browser = await logIn({ app, provider }, 'alice')
      const cookie = browser.cookies.header('/')
      const { refresh_token: first } = issued[0] as Record<string, unknown>
      const clear = provider.fault(typeof fault === 'string' ? faults[fault] as Fault : fault)
      clock.advance(TTL - 20)
      provider.clearRequests()
      const page = await browser.fetch('/token')
      t.match([page.status, page.json()], [403, { code: 'FST_OIDC_ID_TOKEN' }], `${title}: also while a token is good`)
      t.equal(refreshes(provider).length, 1, title)
      t.equal((await get(app, '/me', cookie)).statusCode, 401, `${title}: the session has ended`)
      t.equal((await browser.fetch('/auth/userinfo')).status, 401, title)
      t.equal(provider.count('userinfo'), 0, `${title}: UserInfo is not asked`)
      await until(() => revoked(provider).length > 0)
      t.same(revoked(provider), [issued[0]?.['refresh_token'] ?? first], `${title}: what came is revoked`)
      t.equal((await get(app, '/token', cookie)).statusCode, 401, `${title}: and not kept`)
      clear()
    }
  }
})

t.test('K7 a token response that is none keeps the session', async (t) => {
  const { app, provider, clock, issued } = await start(t, {}, { rotateRefreshTokens: false })
  for (const fault of ['token-response-unknown-token-type', 'token-response-without-access-token'] as const) {
    const browser = await logIn({ app, provider }, 'alice')
    const { access_token: token } = issued[0] as Record<string, unknown>
    const clear = provider.fault(faults[fault])
    clock.advance(TTL - 20)
    const still = await browser.goto('/token')
    t.same([still.json(), still.history[0]?.setCookie], [{ token }, []], `${fault}: the new tokens are not used`)
    clock.advance(20)
    const page = await browser.goto('/token')
    t.match([page.status, page.json().code], [502, 'FST_OIDC_PROVIDER_RESPONSE'], fault)
    t.equal((await browser.goto('/auth/userinfo')).status, 502, fault)
    t.equal((await browser.goto('/me')).json().claims.sub, 'alice', fault)
    clear()
  }
})

/** A logger that keeps its lines. */
function keepLines (): { lines: Array<Record<string, unknown>>, logger: object } {
  const lines: Array<Record<string, unknown>> = []
  return { lines, logger: { level: 'info', stream: { write: (line: string) => { lines.push(JSON.parse(line)) } } } }
}

/** The same as `start`, with the lines of the log. */
async function startLogged (t: Test, providerOptions: ProviderOptions = {}) {
  const { lines, logger } = keepLines()
  const { provider, clock, issued } = await start(t, {}, providerOptions)
  const app = await buildApp(
    t,
    optionsFor(provider, { offlineAccess: true, timeout: 30, session: { key: SESSION_KEY, idleTimeout: 28_800 } }),
    { logger }
  )
  app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
  app.get('/page', { preHandler: app.oidc.required({ refresh: true }) }, async () => 'page')
  return { app, provider, clock, issued, lines }
}

t.test('K7 a wrong clock drops the ID token, and keeps the new tokens', async (t) => {
  const { app, provider, clock, issued, lines } = await startLogged(t)
  const clocks: FaultName[] = ['invalid-expired-exp', 'iat-in-future', 'nbf-in-future', 'clock-1h-ahead']
  for (const fault of clocks) {
    const browser = await logIn({ app, provider }, 'alice')
    const { id_token: first } = issued[0] as Record<string, unknown>
    const clear = provider.fault(faults[fault])
    clock.advance(TTL)
    lines.length = 0
    t.same((await browser.fetch('/token')).json(), { token: issued[0]?.['access_token'] }, fault)
    t.match(
      lines.filter(({ level }) => level === 40),
      [{ code: 'FST_OIDC_ID_TOKEN', detail: /exp|iat|nbf/, msg: /ID token could not be verified/ }],
      `${fault}: said once in the log`
    )
    clear()
    clock.advance(TTL)
    t.same((await browser.fetch('/token')).json(), { token: issued[0]?.['access_token'] }, 'the refresh token was kept')
    const page = await browser.post('/auth/logout', '', { until: ({ pathname }) => pathname === '/end-session' })
    t.not(page.form?.action.searchParams.get('id_token_hint'), first)
  }
})

t.test('K7 keys that cannot be had do not hide that the ID token is of another user or login', async (t) => {
  const { app, provider, clock } = await startLogged(t)
  const wrong: Array<FaultName | Fault> = [
    'refresh-token-invalid-sub', 'refresh-token-invalid-issuer', 'refresh-token-invalid-aud',
    'refresh-token-invalid-nonce', 'refresh-token-invalid-auth-time', 'missing-aud',
    { on: 'token', idTokenRaw: () => 'garbage' }
  ]
  for (const fault of wrong) {
    const what = typeof fault === 'string' ? fault : 'garbage'
    const browser = await logIn({ app, provider }, 'alice')
    const given = typeof fault === 'string' ? faults[fault] : fault
    const off = provider.fault({ on: 'jwks', status: 503 }, { on: 'token', signWith: 'unknown-kid' }, given)
    clock.advance(TTL)
    provider.clearRequests()
    t.match((await browser.fetch('/token')).json(), { statusCode: 403, code: 'FST_OIDC_ID_TOKEN' }, what)
    t.equal((await browser.fetch('/page')).status, 401, `${what}: the session has ended`)
    await until(() => provider.count('revocation') > 0)
    t.equal(provider.count('token'), 1)
    off()
  }
})

t.test('K7 keys that cannot be had drop the ID token; keys that were fetched since refuse it', async (t) => {
  const { app, provider, clock, issued, lines } = await startLogged(t)
  const browser = await logIn({ app, provider }, 'alice')
  const off = provider.fault({ on: 'jwks', status: 503 }, { on: 'token', signWith: 'unknown-kid' })
  clock.advance(TTL)
  t.same((await browser.fetch('/token')).json(), { token: issued[0]?.['access_token'] })
  t.match(
    lines.filter(({ code }) => code !== undefined),
    [{ level: 40, code: 'FST_OIDC_PROVIDER_UNAVAILABLE', msg: /ID token could not be verified/ }]
  )
  off()
  provider.fault({ on: 'token', signWith: 'unknown-kid' })
  clock.advance(TTL)
  provider.clearRequests()
  t.match((await browser.fetch('/token')).json(), { code: 'FST_OIDC_ID_TOKEN' })
  t.ok(provider.count('jwks') >= 1, 'the keys were fetched again')
  t.equal((await browser.fetch('/me')).status, 401)
})

t.test('K7 a later auth_time is no failure, and leaves the session as it was; an earlier one is refused', async (t) => {
  const { app, provider, clock, issued } = await start(t)
  const browser = await logIn({ app, provider }, 'alice')
  const { session: { authTime } } = (await browser.fetch('/me')).json()
  t.type(authTime, 'number')
  const clear = provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, auth_time: Number(claims.iat) }) })
  clock.advance(TTL)
  t.same((await browser.fetch('/token')).json(), { token: issued[0]?.['access_token'] })
  t.equal((await browser.fetch('/me')).json().session.authTime, authTime)
  clear()
  clock.advance(TTL)
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, auth_time: authTime - 1 }) })
  t.match((await browser.fetch('/token')).json(), { code: 'FST_OIDC_ID_TOKEN' })
  t.equal((await browser.fetch('/me')).status, 401)
})

t.test('K7 the nonce of the login is known after its ID token is gone', async (t) => {
  for (const tokens of [['access_token', 'refresh_token'], ['access_token', 'refresh_token', 'id_token']] as const) {
    const { app, provider, clock, issued } = await start(t, {
      session: { key: SESSION_KEY, idleTimeout: 28_800, tokens: [...tokens] }
    })
    const browser = await logIn({ app, provider }, 'alice')
    const { nonce } = decodeJwt(String(issued[0]?.['id_token']))
    clock.advance(TTL)
    provider.fault({ on: 'token', times: 1, idToken: ({ nonce: _, ...claims }) => claims })
    t.equal((await browser.fetch('/token')).status, 200, 'a refreshed ID token without a nonce')
    clock.advance(TTL)
    provider.fault({ on: 'token', times: 1, idToken: (claims) => ({ ...claims, nonce }) })
    t.equal((await browser.fetch('/token')).status, 200, 'with the nonce of the login')
    clock.advance(TTL)
    provider.fault({ on: 'token', times: 1, idToken: (claims) => ({ ...claims, nonce: null }) })
    t.equal((await browser.fetch('/token')).status, 200, 'null is none')
    clock.advance(TTL)
    provider.fault({ on: 'token', times: 1, idToken: (claims) => ({ ...claims, nonce: 'another' }) })
    t.match((await browser.fetch('/token')).json(), { code: 'FST_OIDC_ID_TOKEN' })
    t.equal((await browser.fetch('/me')).status, 401)
  }
})

/** The provider answers refreshes with this error. */
function refuseWith (error: string, status: number, headers: Record<string, string> = {}): Fault {
  return {
    on: 'token',
    when: ({ body }) => body['grant_type'] === 'refresh_token',
    status,
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ error, error_description: 'no' })
  }
}

t.test('K7 what a provider says when it refuses ends the session: a page logs in again, a script gets 401', async (t) => {
  const { app, provider, clock, lines } = await startLogged(t)
  const errors = [
    'interaction_required', 'login_required', 'consent_required', 'account_selection_required', 'invalid_token',
    'token_inactive', 'invalid_grant'
  ]
  for (const error of errors) {
    for (const [status, headers] of [[400, {}], [401, { 'www-authenticate': 'Basic' }], [403, {}], [200, {}]] as const) {
      const title = `${error} ${status}`
      const browser = await logIn({ app, provider }, 'alice')
      const cookie = browser.cookies.header('/')
      clock.advance(TTL - 20)
      const clear = provider.fault(refuseWith(error, status, headers))
      lines.length = 0
      const page = await browser.goto('/page', { until: ({ origin }) => origin === provider.url })
      t.match([page.status, page.location], [302, /\/authorize\?/], `${title}: a page`)
      t.match(
        lines.filter(({ code }) => code === 'FST_OIDC_LOGIN_REQUIRED')[0],
        { level: 30, detail: `the provider answered ${Math.max(status, 400)} ${error}` },
        title
      )
      const script = await get(app, '/token', cookie)
      t.match([script.statusCode, script.json()], [401, { code: 'FST_OIDC_LOGIN_REQUIRED' }], `${title}: a script`)
      t.equal((await get(app, '/me', cookie)).statusCode, 401, title)
      clear()
    }
  }
})

t.test('K7 an error with tokens beside it is no refusal', async (t) => {
  const { app, provider, clock, issued } = await start(t)
  const browser = await logIn({ app, provider }, 'alice')
  provider.fault({ on: 'token', tokenResponse: (answer) => { answer['error'] = 'login_required' } })
  clock.advance(TTL)
  t.same((await browser.fetch('/token')).json(), { token: issued[0]?.['access_token'] })
})

t.test('K7 what is about this client keeps the session, and is an error in the log', async (t) => {
  const { app, provider, clock, issued, lines } = await startLogged(t, { rotateRefreshTokens: false })
  for (const error of ['invalid_client', 'unauthorized_client']) {
    for (const status of [400, 401, 200]) {
      const title = `${error} ${status}`
      const browser = await logIn({ app, provider }, 'alice')
      const token = issued[0]?.['access_token']
      const clear = provider.fault(refuseWith(error, status))
      clock.advance(TTL - 20)
      lines.length = 0
      t.same((await browser.fetch('/token')).json(), { token }, `${title}: the token that is still good`)
      t.match(
        lines.filter(({ level }) => level === 50),
        [{ code: 'FST_OIDC_CLIENT_AUTHENTICATION', detail: new RegExp(`answered ${Math.max(status, 400)} ${error}: `) }],
        title
      )
      clock.advance(20)
      const page = await browser.fetch('/token')
      t.match([page.status, page.json()], [503, { code: 'FST_OIDC_CLIENT_AUTHENTICATION' }], title)
      t.equal((await browser.fetch('/me')).status, 200, `${title}: the session stays`)
      clear()
      clock.advance(6)
      t.same((await browser.fetch('/token')).json(), { token: issued[0]?.['access_token'] }, `${title}: mended`)
    }
  }
})

t.test('K7 a guard that refreshes sends the user of a refused ID token to log in', async (t) => {
  const { app, provider, clock, lines } = await startLogged(t)
  const browser = await logIn({ app, provider }, 'alice')
  clock.advance(TTL)
  provider.fault(faults['refresh-token-invalid-sub'])
  const page = await browser.goto('/page', { until: ({ origin }) => origin === provider.url })
  t.match([page.status, page.location], [302, /\/authorize\?/])
  t.match(lines.find(({ code }) => code === 'FST_OIDC_ID_TOKEN'), { level: 40, detail: /sub/ })
  t.notMatch(JSON.stringify(lines), /alice1/, 'the log does not name the user')
})

t.test('S58 a lost answer of a provider that rotates refresh tokens', async (t) => {
  const { app, provider, clock, issued } = await start(t)
  for (const fault of ['token-lost', 'token-html'] as const) {
    const browser = await logIn({ app, provider }, 'alice')
    const { access_token: token } = issued[0] as Record<string, unknown>
    const clear = provider.fault(faults[fault])
    clock.advance(TTL - 20)
    t.same((await browser.goto('/token')).json(), { token }, `${fault}: the token that is still good`)
    clear()
    clock.advance(20)
    t.match(
      (await browser.goto('/token')).json(),
      { code: 'FST_OIDC_LOGIN_REQUIRED' },
      `${fault}: the provider takes the old refresh token for a stolen one`
    )
    t.equal((await browser.fetch('/me')).status, 401, `${fault}: so the person logs in again`)
  }
})

t.test('S59 a refreshed ID token may lack auth_time and at_hash, and does not change the claims of the session', async (t) => {
  const { app, provider, clock, issued } = await start(t)
  const browser = await logIn({ app, provider }, 'alice')
  for (const change of [
    (claims: Record<string, unknown>) => { delete claims.auth_time },
    (claims: Record<string, unknown>) => { delete claims.at_hash },
    (claims: Record<string, unknown>) => { claims.name = 'Another name' }
  ]) {
    provider.fault({ on: 'token', times: 1, idToken: change })
    clock.advance(TTL)
    t.same((await browser.goto('/token')).json(), { token: issued[0]?.['access_token'] })
  }
  t.equal(refreshes(provider).length, 3)
  t.equal((await browser.goto('/me')).json().claims.name, 'Alice Doe', 'the claims are those of the login')

  const other = await logIn({ app, provider }, 'alice')
  const { nonce } = decodeJwt(String(issued[0]?.['id_token']))
  t.equal(typeof nonce, 'string')
  provider.fault({ on: 'token', times: 1, idToken: (claims) => ({ ...claims, nonce }) })
  clock.advance(TTL)
  t.same(
    (await other.goto('/token')).json(),
    { token: issued[0]?.['access_token'] },
    'the nonce of the login may be there again'
  )
})

t.test('R28 S41 a logout while a token is refreshed', async (t) => {
  const { app, provider, clock } = await start(t)
  const browser = await logIn({ app, provider }, 'alice')
  const cookie = browser.cookies.header('/')
  clock.advance(TTL)
  const gate = createGate()
  provider.fault({ on: 'token', times: 1, before: gate.pass })
  const refreshing = get(app, '/token', cookie)
  await gate.reached
  await browser.post('/auth/logout')
  gate.open()
  const response = await refreshing
  t.same(setCookiesOf(response), [], 'what was refreshed brings no session back')
  t.equal((await get(app, '/me', cookie)).statusCode, 401)
  t.equal((await get(app, '/token', cookie)).statusCode, 401, 'not even with what other requests would share')
  t.equal((await get(app, '/me', after(cookie, response))).statusCode, 401)
})

t.test('V16 S47 fifty users at the same time each get their own token', async (t) => {
  const { app, provider, clock } = await start(t, { claims: [] }, { accessTokenFormat: 'jwt' })
  app.get('/both', async (request) => ({
    token: await app.oidc.accessToken(request),
    userinfo: await app.oidc.userinfo(request)
  }))
  const people: Array<{ sub: string; cookie: string }> = []
  for (let number = 0; number < 50; number++) {
    const browser = await logIn({ app, provider }, `person-${number}`)
    people.push({ sub: `person-${number}`, cookie: browser.cookies.header('/') })
  }
  clock.advance(TTL)
  // All wait at the provider before the first gets its answer; the last is answered first.
  const waiting: Array<() => void> = []
  provider.fault({
    on: 'token',
    before: async () => {
      await new Promise<void>((resolve) => {
        waiting.unshift(resolve)
        if (waiting.length === 50) for (const goOn of waiting) goOn()
      })
    }
  })
  const rounds = await Promise.all(
    [0, 1]
      .flatMap(() => people)
      .map(async ({ sub, cookie }) => ({ sub, answer: (await get(app, '/both', cookie)).json() }))
  )
  for (const { sub, answer } of rounds) {
    t.same([decodeJwt(answer.token).sub, answer.userinfo.sub], [sub, sub])
  }
  t.equal(refreshes(provider).length, 50)
})

t.test('a refresh does not prolong the session', async (t) => {
  const { app, provider, clock } = await start(t, { session: { key: SESSION_KEY } }, { accessTokenTtl: 600 })
  const browser = await logIn({ app, provider }, 'alice')
  for (let minutes = 0; minutes < 59; minutes += 10) {
    t.equal((await browser.goto('/token')).status, 200)
    clock.advance(600)
  }
  t.ok(refreshes(provider).length >= 5)
  t.equal((await browser.goto('/token')).status, 401, 'the session ends after an hour without a guarded request')
  const other = await logIn({ app, provider }, 'bob')
  const { session: { expiresAt } } = (await other.goto('/me')).json()
  for (let minutes = 0; minutes < 480; minutes += 30) {
    const page = await other.goto('/token')
    t.equal(page.status, 200)
    t.ok(
      page.history[0]?.setCookie.every(
        (line) => Number(/Max-Age=(\d+)/.exec(line)?.[1]) <= expiresAt - Math.floor(Date.now() / 1000)
      )
    )
    await other.goto('/me')
    clock.advance(1800)
  }
  t.equal((await other.goto('/token')).status, 401, 'the session ends after eight hours')
})

t.test('S58 a scope that became smaller', async (t) => {
  const { app, provider, clock } = await start(t)
  app.get('/mail', { preHandler: app.oidc.required({ scopes: 'email' }) }, async () => 'mail')
  const browser = await logIn({ app, provider }, 'alice')
  t.equal((await browser.fetch('/mail')).status, 200)
  provider.fault({ on: 'token', tokenResponse: (answer) => { answer.scope = 'openid' } })
  clock.advance(TTL)
  await browser.goto('/token')
  t.equal((await browser.fetch('/mail')).status, 403)

  const other = await logIn({ app, provider }, 'alice')
  t.equal((await other.fetch('/mail')).status, 403)
  provider.clearFaults()
  provider.fault({ on: 'token', tokenResponse: (answer) => { delete answer.scope } })
  const third = await logIn({ app, provider }, 'alice')
  clock.advance(TTL)
  await third.goto('/token')
  t.equal((await third.fetch('/mail')).status, 200, 'without a scope in the answers it is what was asked for')
})

t.test('R22 refreshed tokens that are too large for cookies', async (t) => {
  const lines: string[] = []
  const { provider, clock, issued } = await start(t)
  const app = await buildApp(
    t,
    optionsFor(provider, { offlineAccess: true, claims: [], session: { key: SESSION_KEY, idleTimeout: 28_800 } }),
    {
      logger: {
        level: 'warn',
        stream: {
          write: (line) => {
            lines.push(line)
          }
        }
      }
    }
  )
  app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
  const browser = await logIn({ app, provider }, 'alice')
  const clear = provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, bulk: randomText(9000) }) })
  clock.advance(TTL)
  const page = await browser.goto('/token')
  t.same(page.json(), { token: issued[0]?.['access_token'] }, 'the token is there')
  t.match(lines.join(''), /the refreshed ID token is not kept: it does not fit into the cookies/)
  t.same(browser.cookies.refused, [])
  clear()
  clock.advance(TTL)
  t.same(
    (await browser.goto('/token')).json(),
    { token: issued[0]?.['access_token'] },
    'and the refresh token was saved'
  )
  t.equal(refreshes(provider).length, 2)
})

t.test('C11 S34 UserInfo', async (t) => {
  const { app, provider } = await start(t)
  app.get('/userinfo', async (request) => await app.oidc.userinfo(request))
  const browser = await logIn({ app, provider }, 'alice')
  for (const url of ['/userinfo', '/auth/userinfo']) {
    provider.clearFaults()
    const page = await browser.goto(url)
    t.match([page.status, page.json()], [200, { sub: 'alice' }], url)
    t.equal(page.headers.get('cache-control'), 'no-store')
    t.equal((await client({ app, baseUrl: BASE_URL }).goto(url)).status, 401)
    const failures: Array<[FaultName, number, string]> = [
      ['userinfo-invalid-sub', 403, 'FST_OIDC_USERINFO'],
      ['userinfo-missing-sub', 403, 'FST_OIDC_USERINFO'],
      ['userinfo-html', 403, 'FST_OIDC_USERINFO'],
      ['userinfo-array', 403, 'FST_OIDC_USERINFO'],
      ['userinfo-null', 403, 'FST_OIDC_USERINFO'],
      ['userinfo-empty', 403, 'FST_OIDC_USERINFO'],
      ['userinfo-503', 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
      ['userinfo-redirect', 502, 'FST_OIDC_PROVIDER_RESPONSE']
    ]
    for (const [fault, status, code] of failures) {
      provider.fault(faults[fault])
      const page = await browser.fetch(url)
      t.match([page.status, page.json().code], [status, code], `${url} ${fault}`)
      t.notMatch(page.text(), 'alice')
      provider.clearFaults()
    }
  }
  provider.forget()
  const revoked = await browser.fetch('/auth/userinfo')
  t.match(
    [revoked.status, revoked.json().code],
    [401, 'FST_OIDC_LOGIN_REQUIRED'],
    'neither the token nor its refresh token is known any more'
  )
  t.equal((await browser.fetch('/me')).status, 401)

  provider.fault({ on: 'metadata', metadata: (document) => { delete document.userinfo_endpoint } })
  const without = await buildApp(t, optionsFor(provider))
  const other = await logIn({ app: without, provider }, 'alice')
  t.match((await other.fetch('/auth/userinfo')).json(), { code: 'FST_OIDC_USERINFO' }, 'a provider without UserInfo')
})

t.test('S60 a 401 of UserInfo means new tokens and one more try, and nothing else does', async (t) => {
  const { app, provider, issued } = await start(t)
  const browser = await logIn({ app, provider }, 'alice')
  const refuseOld = (status: number, headers: Record<string, string> = {}): (() => void) => {
    const token = `Bearer ${String(issued[0]?.['access_token'])}`
    return provider.fault({
      on: 'userinfo',
      status,
      headers,
      body: '{}',
      when: ({ headers }) => headers['authorization'] === token
    })
  }
  for (const headers of [{}, { 'www-authenticate': 'Bearer error="invalid_token"' }]) {
    const [count, off] = [refreshes(provider).length, refuseOld(401, headers)]
    const page = await browser.fetch('/auth/userinfo')
    t.match([page.status, page.json()], [200, { sub: 'alice' }])
    t.equal(refreshes(provider).length, count + 1)
    off()
  }
  const count = refreshes(provider).length
  for (const status of [403, 500]) {
    const off = refuseOld(status)
    t.not((await browser.fetch('/auth/userinfo')).status, 200)
    off()
  }
  t.equal(refreshes(provider).length, count, 'no new tokens for another reason')
  const off = provider.fault({ on: 'userinfo', status: 401, body: '{}' })
  provider.clearRequests()
  t.match((await browser.fetch('/auth/userinfo')).json(), { code: 'FST_OIDC_LOGIN_REQUIRED' }, 'K3')
  t.same([provider.count('userinfo'), refreshes(provider).length], [2, 1], 'once')
  off()

  const without = await start(t, { offlineAccess: false })
  const other = await logIn(without, 'alice')
  without.provider.fault({ on: 'userinfo', status: 401, body: '{}' })
  t.match((await other.fetch('/auth/userinfo')).json(), { code: 'FST_OIDC_LOGIN_REQUIRED' }, 'K3')
  t.equal(without.provider.count('userinfo'), 1, 'without a refresh token there is nothing to try')
})

t.test('S60 accessToken() gives another token when an API has refused the one before', async (t) => {
  const { app, provider, issued } = await start(t)
  app.get('/again', async (request) => ({ token: await app.oidc.accessToken(request, { refresh: true }) }))
  const browser = await logIn({ app, provider }, 'alice')
  const first = issued[0]?.['access_token']
  t.same((await browser.fetch('/again')).json(), { token: issued[0]?.['access_token'] })
  t.not(issued[0]?.['access_token'], first)
  t.same((await browser.fetch('/token')).json(), { token: issued[0]?.['access_token'] }, 'and keeps it')
  const off = provider.fault({ on: 'token', status: 503 })
  t.equal((await browser.fetch('/again')).status, 503, 'the one that is refused is not given again')
  off()

  const without = await start(t, { offlineAccess: false })
  without.app.get('/again', async (request) => ({
    token: await without.app.oidc.accessToken(request, { refresh: true })
  }))
  t.match((await (await logIn(without, 'alice')).fetch('/again')).json(), { code: 'FST_OIDC_LOGIN_REQUIRED' })
})

t.test('S42 a guard that refreshes accepts a session with a valid token', async (t) => {
  const { app, provider, clock, issued } = await start(t)
  const whoIs = async ({ oidcClaims, oidcSession }: FastifyRequest) => ({
    sub: oidcClaims?.sub ?? null,
    scopes: oidcSession?.scopes
  })
  app.get('/fresh', { preHandler: app.oidc.required({ refresh: true }) }, whoIs)
  app.get('/maybe-fresh', { preHandler: app.oidc.optional({ refresh: true }) }, whoIs)
  app.get('/profile', { preHandler: app.oidc.required({ refresh: true, scopes: 'profile' }) }, whoIs)
  t.equal((await app.inject('/fresh')).statusCode, 401)
  t.same((await app.inject('/maybe-fresh')).json(), { sub: null })
  const browser = await logIn({ app, provider }, 'alice')
  t.match((await browser.fetch('/fresh')).json(), { sub: 'alice' })
  t.equal(refreshes(provider).length, 0, 'it is not due')
  clock.advance(TTL - 20)
  const narrower = provider.fault({ on: 'token', tokenResponse: (answer) => { answer.scope = 'openid' } })
  t.match((await browser.fetch('/fresh')).json(), { sub: 'alice', scopes: ['openid'] })
  t.equal(refreshes(provider).length, 1)
  t.equal((await browser.fetch('/profile')).status, 403, 'the scopes are those of the new token')
  narrower()
  t.same((await browser.fetch('/token')).json(), { token: issued[0]?.['access_token'] }, 'saved')

  clock.advance(TTL - 20)
  let off = provider.fault({ on: 'token', status: 503 })
  t.equal((await browser.fetch('/fresh')).status, 200, 'the old one is good for a while')
  clock.advance(30)
  t.match([(await browser.fetch('/fresh')).status, (await browser.fetch('/maybe-fresh')).status], [503, 503])
  off()
  clock.advance(6)
  t.equal((await browser.fetch('/fresh')).status, 200, 'and the session has survived that')

  const copy = browser.clone()
  clock.advance(TTL)
  off = provider.fault({
    on: 'token',
    status: 400,
    body: '{"error":"invalid_grant"}',
    headers: { 'content-type': 'application/json' }
  })
  t.same((await copy.fetch('/maybe-fresh')).json(), { sub: null }, 'a user whom the provider refuses is anonymous')
  t.equal((await browser.fetch('/me')).status, 401, 'everywhere')
  off()

  const without = await start(t, { offlineAccess: false })
  without.app.get('/fresh', { preHandler: without.app.oidc.required({ refresh: true }) }, whoIs)
  const other = await logIn(without, 'alice')
  t.equal((await other.fetch('/fresh')).status, 200)
  without.clock.advance(TTL)
  t.match(
    [(await other.fetch('/fresh')).status, (await other.fetch('/me')).status],
    [401, 200],
    'a token that cannot be refreshed'
  )
  const { location } = await other.goto('/fresh', { until: ({ origin }) => origin === without.provider.url })
  t.match(location, /\/authorize\?/, 'a person is sent to log in')

  for (const refresh of ['yes', 1, null]) {
    t.throws(() => app.oidc.required({ refresh } as never), { code: 'FST_OIDC_OPTION', message: /"refresh"/ })
  }
  const bare = await buildApp(t, optionsFor(provider, { session: { key: SESSION_KEY, tokens: ['id_token'] } }))
  t.throws(() => bare.oidc.required({ refresh: true }), { code: 'FST_OIDC_OPTION', message: /session\.tokens/ })
})

t.test('R24 R28 a slow response after a key rotation does not restore the used refresh token', async (t) => {
  const { app: before, provider, clock } = await start(t, {}, { refreshTokens: 'always' })
  const app = await buildApp(
    t,
    optionsFor(provider, {
      offlineAccess: true,
      session: { key: [keyBytes(9), SESSION_KEY], idleTimeout: 28_800 }
    })
  )
  const gate = createGate()
  app.get('/slow', { preHandler: app.oidc.required() }, async () => { await gate.pass() })
  app.get('/token', async (request) => await app.oidc.accessToken(request))
  const cookie = (await logIn({ app: before, provider }, 'alice')).cookies.header('/')
  clock.advance(TTL)
  const slow = get(app, '/slow', cookie)
  await gate.reached
  const refreshed = await get(app, '/token', cookie)
  gate.open()
  const kept = after(after(cookie, refreshed), await slow)
  clock.advance(TTL)
  t.equal((await get(app, '/token', kept)).statusCode, 200)
  t.equal(refreshes(provider).length, 2)
})
