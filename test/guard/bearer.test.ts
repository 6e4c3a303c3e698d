import { request } from 'node:http'
import fc from 'fast-check'
import t from 'tap'
import { sessionCookie, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor, startApp, stopClock } from '../support/app.ts'
import type { FastifyInstance, FastifyRequest, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { BearerOptions, OidcOptions } from '../../index.ts'
import type { AccessTokenOptions, Provider, SignWith } from '../../lib/testing/index.ts'

const API = 'https://api.example.com'
const METADATA = `${BASE_URL}/.well-known/oauth-protected-resource`
const PLAIN = `Bearer resource_metadata="${METADATA}"`

interface World {
  app: FastifyInstance
  provider: Provider
  /** A request with an Authorization header. */
  ask: (
    authorization: string | undefined,
    url?: string,
    headers?: Record<string, string>
  ) => Promise<LightMyRequestResponse>
  /** A request with a good token, as far as the options do not say otherwise. */
  bring: (options?: AccessTokenOptions, url?: string) => Promise<LightMyRequestResponse>
}

async function start (
  t: Test,
  bearer: Partial<BearerOptions> = {},
  options: Partial<OidcOptions> = {}
): Promise<World> {
  const { app, provider } = await startApp(t, { bearer: { audience: API, ...bearer }, ...options })
  addRoutes(app)
  const ask: World['ask'] = async (authorization, url = '/api', headers = {}) =>
    await app.inject({ url, headers: { ...(authorization !== undefined && { authorization }), ...headers } })
  const bring: World['bring'] = async (options = {}, url) => await ask(`Bearer ${tokenOf(provider, options)}`, url)
  return { app, provider, ask, bring }
}

function addRoutes (app: FastifyInstance): void {
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) =>
    done(null, Object.fromEntries(new URLSearchParams(body as string)))
  )
  app.get('/token', async (request) => await app.oidc.accessToken(request))
  const whoIs = async ({ oidcClaims, oidcToken, oidcSession, oidcUser }: FastifyRequest) => ({
    sub: oidcClaims?.sub ?? null,
    token: oidcToken,
    session: oidcSession,
    user: oidcUser
  })
  const { required, optional } = app.oidc
  app.get('/api', { preHandler: required() }, whoIs)
  app.post('/api', { preHandler: required() }, whoIs)
  app.get('/pure', { preHandler: required({ accept: ['bearer'] }) }, whoIs)
  app.get('/any', { preHandler: optional() }, whoIs)
  app.get('/pages', { preHandler: required({ accept: ['session'] }) }, whoIs)
  app.get('/jobs', { preHandler: required({ accept: ['client'] }) }, whoIs)
  app.get('/both', { preHandler: required({ accept: ['bearer', 'client'] }) }, whoIs)
  app.get('/mail', { preHandler: required({ scopes: 'email mail:read' }) }, whoIs)
  app.get(
    '/admin',
    { preHandler: required({ roles: 'admin', claims: { 'department.name': ['sales', 'finance'] } }) },
    whoIs
  )
  app.get('/fresh', { preHandler: required({ maxAge: 60 }) }, whoIs)
  app.get('/gold', { preHandler: required({ acr: ['gold', 'platinum'] }) }, whoIs)
}

function tokenOf (provider: Provider, { overrides, ...options }: AccessTokenOptions = {}): string {
  return provider.accessToken({
    sub: 'alice',
    ...options,
    overrides:
      typeof overrides === 'function'
        ? (claims, header) => overrides({ ...claims, aud: API }, header)
        : { aud: API, ...overrides }
  })
}

function challenges ({ headers }: LightMyRequestResponse): string[] {
  return [headers['www-authenticate'] ?? []].flat()
}

t.test('S71 a good access token', async (t) => {
  const { app, provider, bring, ask } = await start(t)
  const answer = await bring()
  t.match(
    [answer.statusCode, answer.json()],
    [
      200,
      {
        sub: 'alice',
        session: null,
        user: null,
        token: { provider: 'default', clientId: 'web', isClient: false, scopes: ['openid', 'profile', 'email'] }
      }
    ]
  )
  t.same(answer.headers['set-cookie'], undefined)
  t.match((await bring({ overrides: { sid: 'a session of the provider' } })).json(), {
    token: { sid: 'a session of the provider' }
  })
  t.same(answer.headers['www-authenticate'], undefined)
  const token = tokenOf(provider)
  for (const scheme of ['Bearer', 'bearer', 'BEARER', 'bEaReR']) {
    t.equal((await ask(`${scheme} ${token}`)).statusCode, 200, scheme)
  }
  for (const aud of [API, [API, 'other'], ['other', API]]) {
    t.equal((await bring({ overrides: { aud } })).statusCode, 200)
  }
  for (const typ of ['at+jwt', 'AT+JWT', 'application/at+jwt', 'Application/At+Jwt']) {
    t.equal((await bring({ header: { typ } })).statusCode, 200, typ)
  }
  t.equal(
    (
      await app.inject({
        method: 'POST',
        url: '/api',
        headers: {
          authorization: `Bearer ${token}`,
          origin: 'https://other.example.net',
          'sec-fetch-site': 'cross-site'
        }
      })
    ).statusCode,
    200,
    'S43 no cookie counts, and so no check of where it comes from'
  )
  t.same((await ask(undefined, '/any')).json(), { sub: null, token: null, session: null, user: null })
  t.match((await bring({}, '/any')).json(), { sub: 'alice' })
})

t.test('V17 V31 S71 a token that is wrong is refused, and the answer says so', async (t) => {
  const { provider, ask, bring } = await start(t)
  const now = Math.floor(Date.now() / 1000)
  const wrong: Record<string, AccessTokenOptions> = {
    'another audience': { overrides: { aud: 'https://other.example.com' } },
    'an audience that begins alike': { overrides: { aud: `${API}.evil.test` } },
    'no audience': { overrides: { aud: undefined } },
    'another issuer': { overrides: { iss: 'https://evil.test' } },
    issuers: { overrides: { iss: [provider.issuer, 'https://evil.test'] } },
    'no issuer': { overrides: { iss: undefined } },
    expired: { overrides: { exp: now - 31 } },
    'no exp': { overrides: { exp: undefined } },
    'exp a string': { overrides: { exp: String(now + 60) } },
    'not yet': { overrides: { nbf: now + 60 } },
    'no sub': { overrides: { sub: undefined } },
    'no client_id': { overrides: { client_id: undefined } },
    'no jti': { overrides: { jti: undefined } },
    'no iat': { overrides: { iat: undefined } },
    'typ JWT': { header: { typ: 'JWT' } },
    'no typ': { header: { typ: undefined } },
    'typ of a logout token': { header: { typ: 'logout+jwt' } },
    'cnf null': { overrides: { cnf: null } },
    'cnf an array': { overrides: { cnf: [] } },
    'an unknown binding': { overrides: { cnf: { kid: 'x' } } },
    'bound to a key': { overrides: { cnf: { jkt: 'x' } } },
    'bound to a certificate': { overrides: { cnf: { 'x5t#S256': 'x' } } },
    ...Object.fromEntries(
      (
        [
          'none', 'other-key', 'broken-signature', 'public-pem', 'public-jwk', 'client-secret', 'unknown-kid',
          'embedded-jwk', 'jku', 'x5u', 'crit', 'HS256'
        ] as SignWith[]
      ).map((signWith) => [`signed with ${signWith}`, { signWith }])
    )
  }
  for (const url of ['/api', '/pure', '/any']) {
    for (const [name, options] of Object.entries(wrong)) {
      const answer = await bring(options, url)
      t.match(
        [answer.statusCode, answer.json()],
        [401, { code: 'FST_OIDC_TOKEN', message: 'The access token is not valid.' }],
        `${url} ${name}`
      )
      t.same(challenges(answer), [
        `Bearer error="invalid_token", error_description="The access token is not valid.", resource_metadata="${METADATA}"`
      ])
    }
  }
  for (const [name, token] of Object.entries({
    'an ID token': provider.idToken({ sub: 'alice', overrides: { aud: API } }),
    'an ID token that calls itself an access token': provider.idToken({
      sub: 'alice',
      overrides: { aud: API },
      header: { typ: 'at+jwt' }
    }),
    'no JWT': 'opaque',
    dots: 'a.b.c',
    'too long': 'x'.repeat(17_000)
  })) t.match((await ask(`Bearer ${token}`)).json(), { code: 'FST_OIDC_TOKEN' }, name)
  t.equal((await bring()).statusCode, 200)
})

t.test('S69 exactly one credential', async (t) => {
  const { app, provider, ask } = await start(t)
  const token = tokenOf(provider)
  for (const authorization of [
    'Bearer',
    'Bearer ',
    `Bearer  ${token}`,
    `Bearer ${token} x`,
    `Bearer ${token},`,
    `Bearer "${token}"`,
    `Bearer ${token}, Bearer ${token}`,
    'bearer ünïcode',
    'DPoP'
  ]) {
    const answer = await ask(authorization)
    t.match([answer.statusCode, answer.json()], [400, { code: 'FST_OIDC_AUTHORIZATION' }], authorization.slice(0, 20))
    t.match(challenges(answer)[0], /^Bearer error="invalid_request"/)
  }
  for (const authorization of ['Basic dTpw', 'Digest x', 'Bearertoken', 'Negotiate', '']) {
    t.match((await ask(authorization)).json(), { code: 'FST_OIDC_LOGIN_REQUIRED' }, authorization)
  }
  t.match(
    (await ask(undefined, `/api?access_token=${token}`)).json(),
    { code: 'FST_OIDC_LOGIN_REQUIRED' },
    'never from the address'
  )
  const form = async (headers: Record<string, string>): Promise<number> =>
    (
      await app.inject({
        method: 'POST',
        url: '/api',
        headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
        payload: `access_token=${token}`
      })
    ).statusCode
  t.same([await form({}), await form({ authorization: `Bearer ${token}` })], [401, 400], 'nor from a form')
  for (let times = 0; times < 2; times++) t.equal((await ask(`Bearer ${token}`)).statusCode, 200)
  t.equal(await form({ authorization: `Bearer ${token}` }), 400, 'also when the token is known')
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as { port: number }
  const twice = await new Promise<number>((resolve, reject) => {
    request(
      {
        port,
        host: '127.0.0.1',
        path: '/api',
        headers: ['Host', 'x', 'Authorization', `Bearer ${token}`, 'Authorization', `Bearer ${token}`] as never
      },
      (response) => {
        response.resume()
        resolve(response.statusCode as number)
      }
    )
      .on('error', reject)
      .end()
  })
  t.equal(twice, 400, 'two headers')
  await fc.assert(fc.asyncProperty(fc.string({ maxLength: 60 }), async (text) => {
    const { statusCode } = await ask(`Bearer ${text.replace(/[^\x20-\x7e]/g, '')}`)
    return statusCode === 401 || statusCode === 400
  }), { numRuns: 200 })
})

t.test('S70 S77 the answer for each caller', async (t) => {
  const { app, bring, ask, provider } = await start(t)
  const page = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', accept: 'text/html' }
  const nothing = await ask(undefined)
  t.match([nothing.statusCode, challenges(nothing)], [401, [PLAIN]], 'without error when nothing was sent')
  t.same(challenges(await ask(undefined, '/mail')), [`Bearer scope="email mail:read", resource_metadata="${METADATA}"`])
  const sent = await ask(undefined, '/api', page)
  t.match(
    [sent.statusCode, sent.headers.location, challenges(sent)],
    [302, new RegExp(`^${provider.issuer}/authorize`), []],
    'a person is sent to log in'
  )
  t.equal((await ask(undefined, '/pure', page)).statusCode, 401, 'but not where no session counts')
  t.same(challenges(await ask(undefined, '/pages')), [], 'where no token counts none is asked for')
  t.match((await bring({}, '/pages')).json(), { code: 'FST_OIDC_LOGIN_REQUIRED' })

  const weak = await bring({}, '/mail')
  t.match(
    [weak.statusCode, challenges(weak)],
    [
      403,
      [
        `Bearer error="insufficient_scope", error_description="Your account does not have access to this.", scope="email mail:read", resource_metadata="${METADATA}"`
      ]
    ]
  )
  t.equal((await bring({ scope: 'email mail:read' }, '/mail')).statusCode, 200)
  for (const overrides of [
    { scope: undefined, scp: ['email', 'mail:read'] },
    { scope: undefined, scp: 'email mail:read' },
    { scope: 'email', scp: ['mail:read'] },
    { scope: ['email', 'mail:read'] }
  ]) {
    t.equal((await bring({ overrides }, '/mail')).statusCode, 200, JSON.stringify(overrides))
  }
  t.equal((await bring({ overrides: { scope: 'email mail:readx' } }, '/mail')).statusCode, 403)

  const admin = { roles: ['admin'], department: { name: 'finance' } }
  t.equal((await bring({ overrides: admin }, '/admin')).statusCode, 200)
  const lacking = await bring({ overrides: { ...admin, department: { name: 'it' } } }, '/admin')
  t.match([lacking.statusCode, lacking.json().code], [403, 'FST_OIDC_FORBIDDEN'])
  t.notMatch(challenges(lacking)[0], /insufficient_scope/)

  const now = Math.floor(Date.now() / 1000)
  t.equal((await bring({ overrides: { auth_time: now - 10 } }, '/fresh')).statusCode, 200)
  const old = await bring({ overrides: { auth_time: now - 1000 } }, '/fresh')
  t.equal(old.statusCode, 401)
  t.match(
    challenges(old)[0],
    /^Bearer error="insufficient_user_authentication", error_description="[^"]+", max_age="60"/
  )
  t.equal((await bring({ overrides: { acr: 'gold' } }, '/gold')).statusCode, 200)
  t.match(
    challenges(await bring({ overrides: { acr: '1' } }, '/gold'))[0],
    /error="insufficient_user_authentication".*acr_values="gold platinum"/
  )

  const cookie = sessionCookie(app)
  t.match((await ask(undefined, '/api', { cookie })).json(), {
    sub: 'alice',
    token: null,
    session: { provider: 'default' }
  })
  t.match(
    (await ask(`Bearer ${tokenOf(provider, { sub: 'bob' })}`, '/api', { cookie })).json(),
    { sub: 'bob', session: null },
    'the token counts'
  )
  t.equal((await ask('Bearer x', '/api', { cookie })).statusCode, 401, 'also when it is wrong')
  t.equal((await ask(undefined, '/pure', { cookie })).statusCode, 401)
  t.equal((await app.inject({ method: 'POST', url: '/api', headers: { cookie } })).statusCode, 403, 'S43')
  const plain = await buildApp(t, optionsFor(provider))
  t.match(
    (await plain.inject({ url: '/me', headers: { authorization: `Bearer ${tokenOf(provider)}` } })).json(),
    { code: 'FST_OIDC_LOGIN_REQUIRED' },
    'without "bearer" no header is looked at'
  )
})

t.test('S72 a client is nobody', async (t) => {
  const { bring } = await start(t)
  const clients = [
    { sub: 'web' },
    { sub: 'web@clients', client_id: undefined, azp: 'web' },
    { gty: 'client-credentials' },
    { idtyp: 'app' },
    { client_id: 'My-App', preferred_username: 'service-account-my-app' },
    { client_id: undefined, cid: 'web', sub: 'web' },
    { client_id: undefined, appid: 'web', sub: 'web' }
  ]
  for (const overrides of clients) {
    const strict = { client_id: 'x', ...overrides } as Record<string, unknown>
    const options = {
      overrides: {
        ...overrides,
        client_id: overrides.client_id ?? strict['azp'] ?? strict['cid'] ?? strict['appid'] ?? 'web'
      }
    }
    t.match((await bring(options)).json(), { code: 'FST_OIDC_FORBIDDEN' }, JSON.stringify(overrides))
    t.match((await bring(options, '/jobs')).json(), { token: { isClient: true } })
    t.equal((await bring(options, '/both')).statusCode, 200)
  }
  t.match((await bring({}, '/jobs')).json(), { code: 'FST_OIDC_FORBIDDEN' }, 'nor is a person a client')
  t.match((await bring({}, '/both')).json(), { token: { isClient: false } })
})

t.test('S71 providers that do not mark their access tokens', async (t) => {
  const { bring, ask, provider } = await start(t, { strictType: false })
  for (const options of [
    { header: { typ: 'JWT' } },
    { header: { typ: undefined } },
    { overrides: { client_id: undefined, scope: undefined, cid: 'web', jti: undefined } },
    { overrides: { scope: undefined, scp: 'x', client_id: undefined } }
  ]) {
    t.equal((await bring(options)).statusCode, 200, JSON.stringify(options))
  }
  for (const overrides of [
    { nonce: 'x' },
    { at_hash: 'x' },
    { token_use: 'id' },
    { typ: 'ID' },
    { events: {} },
    { scope: undefined, client_id: undefined }
  ]) {
    t.equal((await bring({ overrides })).statusCode, 401, JSON.stringify(overrides))
  }
  t.equal((await ask(`Bearer ${provider.idToken({ sub: 'alice', overrides: { aud: API } })}`)).statusCode, 401)
  t.match(
    (await bring({ overrides: { sub: undefined, client_id: 'web' } }, '/jobs')).json(),
    { sub: 'web', token: { isClient: true } },
    'nobody'
  )
  t.match((await bring({ overrides: { sub: undefined, client_id: undefined } }, '/jobs')).json(), {
    sub: '',
    token: { isClient: true }
  })
  t.match(
    (await bring({ overrides: { client_id: undefined } })).json(),
    { sub: 'alice', token: { isClient: false } },
    'a provider that does not name the client'
  )
})

t.test('R9 S66 V19 keys: rotation is followed, and nobody can have the provider flooded', async (t) => {
  const { provider, bring, ask } = await start(t)
  const before = tokenOf(provider)
  t.equal((await ask(`Bearer ${before}`)).statusCode, 200)
  provider.clearRequests()
  for (let count = 0; count < 50; count++) t.equal((await ask(`Bearer ${before}`)).statusCode, 200)
  t.same(provider.requests, [], 'what was verified is not verified again')
  await provider.rotateKeys()
  t.equal((await bring()).statusCode, 200, 'a new key is found at once')
  t.equal(
    (await ask(`Bearer ${before}`)).statusCode,
    401,
    'and a token of a key that is gone is worth nothing, also where it was kept'
  )
  provider.clearRequests()
  const statuses = await Promise.all(
    Array.from({ length: 500 }, async () => (await bring({ signWith: 'unknown-kid' })).statusCode)
  )
  t.same([...new Set(statuses)], [401])
  t.ok(provider.requests.length <= 10, `${provider.requests.length} requests`)
  t.equal((await bring()).statusCode, 200)
  provider.clearRequests()
  await Promise.all(
    Array.from({ length: 200 }, async (_, index) => await bring({ overrides: { iss: `https://evil${index}.test` } }))
  )
  t.same(provider.requests, [], 'an issuer that is none of ours is asked nothing')
})

t.test('a token that is kept does not outlive itself, its keys or a logout', async (t) => {
  const clock = stopClock(t)
  const { app, provider, ask } = await start(t)
  const token = tokenOf(provider, { overrides: { exp: Math.floor(Date.now() / 1000) + 60 } })
  t.equal((await ask(`Bearer ${token}`)).statusCode, 200)
  clock.advance(59)
  t.equal((await ask(`Bearer ${token}`)).statusCode, 200)
  clock.advance(32)
  t.equal((await ask(`Bearer ${token}`)).statusCode, 401)
  const long = tokenOf(provider, { overrides: { exp: Math.floor(Date.now() / 1000) + 86_400 } })
  t.equal((await ask(`Bearer ${long}`)).statusCode, 200)
  clock.advance(601)
  provider.clearRequests()
  t.equal((await ask(`Bearer ${long}`)).statusCode, 200)
  t.same(
    provider.requests.map(({ endpoint }) => endpoint),
    ['jwks'],
    'the keys are fetched as often as for everybody else'
  )
  const tampered = long.replace(/^(.{60})./, (_, start: string) =>
    `${start}!`.replace('!', start.endsWith('A') ? 'B' : 'A')
  )
  t.equal((await ask(`Bearer ${tampered}`)).statusCode, 401, 'another token with the same end')
  await app.oidc.sessions.revoke({ sub: 'alice' })
  t.equal((await ask(`Bearer ${long}`)).statusCode, 200, 'a JWT is good until it expires')
})

t.test('S73 tokens that are no JWT', async (t) => {
  let refreshToken = ''
  const { app, provider, ask } = await start(
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
  const ask_ = async (more: Record<string, unknown>, text = token): Promise<LightMyRequestResponse> => {
    answer = more
    return await ask(`Bearer ${text}`)
  }
  t.match(
    (await ask_({}, refreshToken)).json(),
    { code: 'FST_OIDC_TOKEN' },
    'a refresh token of this client is active as well'
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
      (await ask_({ active: true, ...more }, `bad${index}`)).json(),
      { code: typeof (more['active'] ?? true) === 'boolean' ? 'FST_OIDC_TOKEN' : 'FST_OIDC_PROVIDER_RESPONSE' },
      JSON.stringify(more)
    )
  }
  const good = await ask_({ nbf: 1 })
  t.match(
    [good.statusCode, good.json()],
    [200, { sub: 'alice', token: { clientId: 'web', isClient: false } }],
    'issued to this very client'
  )
  t.match(provider.requests.filter(({ endpoint }) => endpoint === 'introspection').at(-1), {
    body: { token, token_type_hint: 'access_token' },
    headers: { authorization: /^Basic / }
  })
  const count = asked()
  for (let more = 0; more < 20; more++) t.equal((await ask_({ active: false })).statusCode, 200)
  t.equal(asked(), count, 'it is not asked again for a while')
  t.equal((await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, { app, sub: 'alice' })).status, 200)
  t.equal((await ask_({ active: false })).statusCode, 401, 'but after a logout')
  t.match(
    (await ask_({ active: true, aud: API, client_id: 'other', sub: 'bob' }, 'another')).json(),
    { sub: 'bob' },
    'issued to another client, for this API'
  )

  provider.fault({ on: 'introspection', status: 500 })
  t.match(
    [(await ask('Bearer third')).statusCode, (await ask('Bearer third')).json().code],
    [503, 'FST_OIDC_PROVIDER_UNAVAILABLE']
  )
  provider.clearFaults()
  t.equal((await ask('Bearer third')).statusCode, 401, 'a failure is not kept')
})

t.test('S73 an answer is never used past exp, and not for longer than configured', async (t) => {
  const clock = stopClock(t)
  const { provider, ask } = await start(t, { introspection: 'default', introspectionMaxAge: 60 })
  const at = (): number => Math.floor(Date.now() / 1000)
  let body: Record<string, unknown> = { active: true, aud: API, sub: 'alice', client_id: 'x', exp: at() + 20 }
  provider.fault({ on: 'introspection', answer: (given) => { given.body = JSON.stringify(body) } })
  t.equal((await ask('Bearer opaque')).statusCode, 200)
  clock.advance(21)
  t.equal((await ask('Bearer opaque')).statusCode, 401)
  body = { active: true, aud: API, sub: 'alice', client_id: 'x' }
  t.match((await ask('Bearer other')).json(), { token: { expiresAt: at() + 3600 } })
  body = { active: false }
  clock.advance(59)
  t.equal((await ask('Bearer other')).statusCode, 200)
  clock.advance(1)
  t.equal((await ask('Bearer other')).statusCode, 401)
  const without = await start(t)
  t.equal((await without.ask('Bearer opaque')).statusCode, 401, 'where it is not configured nobody is asked')
  t.equal(without.provider.count('introspection'), 0)
  const { app: lacking, provider: poor } = await startApp(
    t,
    { bearer: { audience: API, introspection: true } },
    { metadata: { introspection_endpoint: undefined } }
  )
  t.ok(poor)
  t.equal((await lacking.inject({ url: '/me', headers: { authorization: 'Bearer opaque' } })).statusCode, 502)
})

t.test('V19 several providers: each vouches for its own tokens only', async (t) => {
  const [one, two] = [await startProvider(), await startProvider()]
  t.teardown(async () => {
    await one.close()
    await two.close()
  })
  const optionsOf = ({ issuer, clients: [client] }: Provider) => ({
    issuer,
    clientId: 'web',
    clientSecret: client?.client_secret as string
  })
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    bearer: { audience: API, introspection: 'two' },
    providers: { one: optionsOf(one), two: optionsOf(two) }
  })
  addRoutes(app)
  app.get('/two', { preHandler: app.oidc.required({ provider: 'two' }) }, async ({ oidcToken }) => oidcToken?.provider)
  const status = async (token: string, url = '/api') =>
    (await app.inject({ url, headers: { authorization: `Bearer ${token}` } })).statusCode
  t.same([await status(tokenOf(one)), await status(tokenOf(two))], [200, 200])
  t.same([await status(tokenOf(one), '/two'), await status(tokenOf(two), '/two')], [401, 200])
  t.equal(
    await status(tokenOf(one, { overrides: { iss: two.issuer } })),
    401,
    'signed by the one, in the name of the other'
  )
  await status('opaque')
  t.same(
    [one.count('introspection'), two.count('introspection')],
    [0, 1],
    'a token is shown to the provider that was named'
  )
  t.same((await app.inject('/.well-known/oauth-protected-resource')).json().authorization_servers, [
    one.issuer,
    two.issuer
  ])
})

t.test('tenants: the route says whose tokens count', async (t) => {
  const [acme, other] = [await startProvider(), await startProvider()]
  t.teardown(async () => { await acme.close(); await other.close() })
  const all: Record<string, Provider> = { acme, other }
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    bearer: { audience: API },
    resolveProvider: (_request, name = '') =>
      all[name] === undefined ? null : { issuer: all[name].issuer, clientId: 'web', clientSecret: 'x' }
  })
  app.get(
    '/t/:tenant',
    { preHandler: app.oidc.required({ provider: ({ params }) => (params as { tenant: string }).tenant }) },
    async ({ oidcToken }) => ({ provider: oidcToken?.provider })
  )
  const ask = async (url: string, provider: Provider) =>
    await app.inject({ url, headers: { authorization: `Bearer ${tokenOf(provider)}` } })
  t.same((await ask('/t/acme', acme)).json(), { provider: 'acme' })
  t.same([(await ask('/t/other', acme)).statusCode, (await ask('/t/none', acme)).statusCode], [401, 401])
  t.notOk('authorization_servers' in (await app.inject('/.well-known/oauth-protected-resource')).json())
})

t.test('two registrations of one issuer: a token that is kept for the one is found for the other', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const { issuer } = provider
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    bearer: { audience: API },
    providers: {
      web: { issuer, clientId: 'web', clientSecret: 'x' },
      app: { issuer, clientId: 'app', clientSecret: 'x' }
    }
  })
  addRoutes(app)
  app.get('/app', { preHandler: app.oidc.required({ provider: 'app' }) }, async ({ oidcToken }) => ({
    provider: oidcToken?.provider
  }))
  const authorization = `Bearer ${tokenOf(provider)}`
  for (const [url, name] of [
    ['/api', 'web'],
    ['/api', 'web'],
    ['/app', 'app'],
    ['/api', 'web'],
    ['/app', 'app']
  ] as const) {
    const body = (await app.inject({ url, headers: { authorization } })).json()
    t.equal(body.token?.provider ?? body.provider, name)
  }
})

t.test('a session and a token in one request: only the token counts', async (t) => {
  const { app, provider } = await start(t, {}, { onClaims: () => ({ name: 'Bob' }) as never })
  const answer = async ({ oidcClaims, oidcToken, oidcSession, oidcUser }: FastifyRequest): Promise<unknown> => [
    oidcClaims?.sub,
    oidcUser,
    oidcSession !== null,
    oidcToken !== null
  ]
  app.get(
    '/after',
    { preHandler: [app.oidc.optional({ accept: ['session'] }), app.oidc.required({ accept: ['bearer'] })] },
    answer
  )
  app.get(
    '/before',
    { preHandler: [app.oidc.required({ accept: ['bearer'] }), app.oidc.required({ accept: ['session'] })] },
    answer
  )
  app.get(
    '/provider-token',
    { preHandler: app.oidc.optional() },
    async (request) => await app.oidc.accessToken(request)
  )
  const browser = await logIn({ app, provider }, 'bob')
  const headers = { authorization: `Bearer ${tokenOf(provider)}` }
  t.same((await browser.fetch('/after', { headers })).json(), ['alice', null, false, true])
  t.same((await browser.fetch('/before', { headers })).json(), ['bob', { name: 'Bob' }, true, false])
  t.equal((await browser.fetch('/provider-token')).status, 200)
  t.match(
    (await browser.fetch('/provider-token', { headers })).json(),
    { code: 'FST_OIDC_LOGIN_REQUIRED' },
    'the tokens of a session are for the person of the session'
  )
})

t.test('S76 the metadata of the protected resource', async (t) => {
  const { app, provider } = await start(t, { scopes: ['mail:read'], dpop: true, resource: `${BASE_URL}/v1/` })
  const answer = await app.inject('/.well-known/oauth-protected-resource/v1')
  t.match(
    [answer.statusCode, answer.headers['cache-control'], answer.headers['access-control-allow-origin']],
    [200, 'public, max-age=3600', '*']
  )
  t.same(answer.json(), {
    resource: `${BASE_URL}/v1/`,
    authorization_servers: [provider.issuer],
    bearer_methods_supported: ['header'],
    scopes_supported: ['mail:read'],
    dpop_signing_alg_values_supported: ['ES256', 'ES384', 'ES512', 'PS256', 'RS256', 'EdDSA', 'Ed25519'],
    dpop_bound_access_tokens_required: false
  })
  t.same((await app.inject('/.well-known/oauth-protected-resource')).json(), answer.json())
  const refused = await app.inject({ url: '/api', headers: { host: 'evil.test' } })
  t.match(challenges(refused)[0], `resource_metadata="${METADATA}/v1"`, 'V21 by the options, not by the request')
  t.equal((await app.inject({ method: 'POST', url: '/.well-known/oauth-protected-resource' })).statusCode, 405)
  const plain = await buildApp(t, optionsFor(provider))
  t.equal((await plain.inject('/.well-known/oauth-protected-resource')).statusCode, 404)
})

t.test('guards ask what the options cannot say', async (t) => {
  const { app, ask, provider } = await start(
    t,
    {},
    { roleClaims: ['permissions', 'https://example.com/roles', 'resource_access.{clientId}.roles'] }
  )
  const seen: unknown[] = []
  app.get(
    '/own/:sub',
    {
      preHandler: app.oidc.required({
        check: async ({ sub }, { params }) => {
          seen.push(sub)
          return sub === (params as { sub: string }).sub
        }
      })
    },
    async () => 'own'
  )
  app.get('/truthy', { preHandler: app.oidc.optional({ check: (() => 'yes') as never }) }, async () => 'x')
  app.get(
    '/failing',
    {
      preHandler: app.oidc.required({
        check: () => {
          throw new Error('the check fails')
        }
      })
    },
    async () => 'x'
  )
  app.get('/roles', { preHandler: app.oidc.required({ roles: 'admin' }) }, async () => 'admin')
  const token = `Bearer ${tokenOf(provider)}`
  t.same([(await ask(token, '/own/alice')).statusCode, (await ask(token, '/own/bob')).statusCode], [200, 403])
  t.same(
    [
      (await ask(undefined, '/own/alice', { cookie: sessionCookie(app) })).statusCode,
      (await ask(undefined, '/own/bob', { cookie: sessionCookie(app) })).statusCode
    ],
    [200, 403],
    'the same for sessions'
  )
  t.equal((await ask(undefined, '/own/alice')).statusCode, 401)
  t.same(seen, ['alice', 'alice', 'alice', 'alice'], 'nobody is asked about nobody')
  t.same(
    [(await ask(undefined, '/truthy')).statusCode, (await ask(token, '/truthy')).statusCode],
    [200, 403],
    'only true is true'
  )
  t.equal((await ask(token, '/failing')).statusCode, 500)
  const roles = async (overrides: Record<string, unknown>): Promise<number> =>
    (await ask(`Bearer ${tokenOf(provider, { overrides })}`, '/roles')).statusCode
  t.same(
    await Promise.all(
      [
        { permissions: ['admin'] },
        { 'https://example.com/roles': 'admin' },
        { resource_access: { web: { roles: ['admin'] } } },
        { resource_access: { other: { roles: ['admin'] } } },
        { roles: ['admin'] }
      ].map(roles)
    ),
    [200, 200, 200, 403, 403]
  )
  t.equal(await roles(JSON.parse('{"__proto__":{"permissions":["admin"]}}')), 403, 'R19')
})

t.test('S82 options that are wrong', async (t) => {
  const { provider } = await startApp(t)
  const bad: Array<[unknown, RegExp]> = [
    [true, /"bearer" must be an object/],
    [{}, /"bearer.audience"/],
    [{ audience: [] }, /"bearer.audience"/],
    [{ audience: '' }, /"bearer.audience"/],
    [{ audience: API, algorithms: ['HS256'] }, /"bearer.algorithms"/],
    [{ audience: API, algorithms: ['none'] }, /"bearer.algorithms"/],
    [{ audience: API, other: 1 }, /"bearer.other"/],
    [{ audience: API, strictType: 'no' }, /"bearer.strictType"/],
    [{ audience: API, dpop: 'yes' }, /"bearer.dpop"/],
    [{ audience: API, introspection: 1 }, /"bearer.introspection"/],
    [{ audience: API, introspectionMaxAge: 301 }, /"bearer.introspectionMaxAge"/],
    [{ audience: API, resource: 'x' }, /"bearer.resource"/],
    [{ audience: API, clientCertificate: 'x' }, /"bearer.clientCertificate"/]
  ]
  for (const [bearer, message] of bad) {
    await t.rejects(
      buildApp(t, optionsFor(provider, { bearer: bearer as BearerOptions })),
      { code: 'FST_OIDC_OPTION', message },
      JSON.stringify(bearer)
    )
  }
  const one = { issuer: provider.issuer, clientId: 'web' }
  await t.rejects(
    buildApp(t, {
      baseUrl: BASE_URL,
      allowInsecureLoopback: true,
      session: { key: SESSION_KEY },
      providers: { one, two: one },
      bearer: { audience: API, introspection: true }
    }),
    { message: /"bearer.introspection" must name/ }
  )
  const plain = await buildApp(t, optionsFor(provider))
  for (const accept of [['bearer'], ['client'], ['session', 'bearer']] as never[]) {
    t.throws(() => plain.oidc.required({ accept }), { code: 'FST_OIDC_OPTION', message: /"accept" needs "bearer"/ })
  }
  const app = await buildApp(t, optionsFor(provider, { bearer: { audience: API } }))
  for (const accept of [[], ['cookie'], 'x'] as never[]) {
    t.throws(() => app.oidc.required({ accept }), { code: 'FST_OIDC_OPTION', message: /"accept"/ })
  }
  t.throws(() => app.oidc.required({ check: true as never }), { code: 'FST_OIDC_OPTION', message: /"check"/ })
  await t.rejects(buildApp(t, optionsFor(provider, { roleClaims: [1] as never })), { message: /"roleClaims"/ })
})
