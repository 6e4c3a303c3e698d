import { createHash } from 'node:crypto'
import { request } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { SignJWT, decodeJwt } from 'jose'
import fc from 'fast-check'
import t from 'tap'
import { partsOf } from '../../lib/decorator.ts'
import { createBearer } from '../../lib/guard/bearer.ts'
import { parseOptions } from '../../lib/options/settings.ts'
import { sessionCookie, startProvider, testCertificate } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor, startApp, stopClock } from '../support/app.ts'
import { API, METADATA, call, challenges, identity, start, tokenOf, tokenWith } from '../support/bearer.ts'
import { clientsOf } from '../support/broker.ts'
import { keyBytes } from '../support/keys.ts'
import { until } from '../support/until.ts'
import type { FastifyRequest } from 'fastify'
import type { BearerOptions } from '../../index.ts'
import type { Broker } from '../../lib/broker/broker.ts'
import type { BearerSettings } from '../../lib/options/bearer.ts'
import type { Providers } from '../../lib/provider/providers.ts'

const PLAIN = `Bearer resource_metadata="${METADATA}"`

t.test('S71 a valid access token gives access', async (t) => {
  const { app, provider, sendToken, send } = await start(t)
  const answer = await sendToken()
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
  t.match((await sendToken({ overrides: { sid: 'a session of the provider' } })).json(), {
    token: { sid: 'a session of the provider' }
  })
  t.same(answer.headers['www-authenticate'], undefined)
  const token = tokenOf(provider)
  for (const scheme of ['Bearer', 'bearer', 'BEARER', 'bEaReR']) {
    t.equal((await send(`${scheme} ${token}`)).statusCode, 200, scheme)
  }
  for (const aud of [API, [API, 'other'], ['other', API]]) {
    t.equal((await sendToken({ overrides: { aud } })).statusCode, 200)
  }
  for (const typ of ['at+jwt', 'AT+JWT', 'application/at+jwt', 'Application/At+Jwt']) {
    t.equal((await sendToken({ header: { typ } })).statusCode, 200, typ)
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
    'S43 without a cookie the origin is not checked'
  )
  t.same((await send(undefined, '/any')).json(), { sub: null, token: null, session: null, user: null })
  t.match((await sendToken({}, '/any')).json(), { sub: 'alice' })
})

t.test('S69 a request carries exactly one credential', async (t) => {
  const { app, provider, send } = await start(t)
  const token = tokenOf(provider)
  for (const authorization of [
    'Bearer',
    'Bearer ',
    `Bearer ${token} x`,
    `Bearer ${token},`,
    `Bearer "${token}"`,
    `Bearer ${token}, Bearer ${token}`,
    'bearer ünïcode',
    'DPoP'
  ]) {
    const answer = await send(authorization)
    t.match([answer.statusCode, answer.json()], [400, { code: 'FST_OIDC_AUTHORIZATION' }], authorization.slice(0, 20))
    t.match(challenges(answer)[0], /^Bearer error="invalid_request"/)
  }
  for (const authorization of ['Basic dTpw', 'Digest x', 'Bearertoken', 'Negotiate', '']) {
    t.match((await send(authorization)).json(), { code: 'FST_OIDC_LOGIN_REQUIRED' }, authorization)
  }
  t.match(
    (await send(undefined, `/api?access_token=${token}`)).json(),
    { code: 'FST_OIDC_LOGIN_REQUIRED' },
    'no token is read from the URL'
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
  t.same([await form({}), await form({ authorization: `Bearer ${token}` })], [401, 400], 'no token is read from a form')
  for (let times = 0; times < 2; times++) t.equal((await send(`Bearer ${token}`)).statusCode, 200)
  t.equal((await send(`Bearer  ${token}`)).statusCode, 200, 'K8 several spaces are legal')
  t.equal(await form({ authorization: `bearer   ${token}` }), 400, 'K8 also for them, a token in the form is one too many')
  t.equal(await form({ authorization: `Bearer ${token}` }), 400, 'a cached token is no exception')
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
  t.equal(twice, 400, 'two Authorization headers are refused')
  await fc.assert(fc.asyncProperty(fc.string({ maxLength: 60 }), async (text) => {
    const { statusCode } = await send(`Bearer ${text.replace(/[^\x20-\x7e]/g, '')}`)
    return statusCode === 401 || statusCode === 400
  }), { numRuns: 200 })
})

t.test('S69 a second token in a form is refused for each spelling of the media type', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API } })
  app.addContentTypeParser(/^application\/x-www-form-urlencoded/i, { parseAs: 'string' }, (_request, body, done) =>
    done(null, Object.fromEntries(new URLSearchParams(body as string)))
  )
  app.post('/api', { preHandler: app.oidc.required() }, identity)
  for (const type of ['application/x-www-form-urlencoded', 'Application/X-WWW-Form-Urlencoded; charset=utf-8']) {
    for (let times = 0; times < 3; times++) {
      const { statusCode } = await app.inject({
        method: 'POST',
        url: '/api',
        headers: { authorization: `Bearer ${tokenWith(provider)}`, 'content-type': type },
        payload: 'access_token=x'
      })
      t.equal(statusCode, 400, type)
    }
  }
})

t.test('S70 S77 the challenge depends on the caller, the route and the error', async (t) => {
  const { app, sendToken, send, provider } = await start(t)
  const page = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', accept: 'text/html' }
  const nothing = await send(undefined)
  t.match(
    [nothing.statusCode, challenges(nothing)],
    [401, [PLAIN]],
    'a request without credentials gets a challenge without error'
  )
  t.same(
    challenges(await send(undefined, '/mail')),
    [`Bearer scope="email mail:read", resource_metadata="${METADATA}"`]
  )
  const sent = await send(undefined, '/api', page)
  t.match(
    [sent.statusCode, sent.headers.location, challenges(sent)],
    [302, new RegExp(`^${provider.issuer}/authorize`), []],
    'a navigation starts a login'
  )
  t.equal((await send(undefined, '/pure', page)).statusCode, 401, 'no login starts where the route accepts no session')
  t.same(challenges(await send(undefined, '/pages')), [], 'a route that accepts no token sends no challenge')
  t.match((await sendToken({}, '/pages')).json(), { code: 'FST_OIDC_LOGIN_REQUIRED' })

  const weak = await sendToken({}, '/mail')
  t.match(
    [weak.statusCode, challenges(weak)],
    [
      403,
      [
        'Bearer error="insufficient_scope", error_description="Your account does not have access to this.", ' +
          `scope="email mail:read", resource_metadata="${METADATA}"`
      ]
    ]
  )
  t.equal((await sendToken({ scope: 'email mail:read' }, '/mail')).statusCode, 200)
  for (const overrides of [
    { scope: undefined, scp: ['email', 'mail:read'] },
    { scope: undefined, scp: 'email mail:read' },
    { scope: 'email', scp: ['mail:read'] },
    { scope: ['email', 'mail:read'] }
  ]) {
    t.equal((await sendToken({ overrides }, '/mail')).statusCode, 200, JSON.stringify(overrides))
  }
  t.equal((await sendToken({ overrides: { scope: 'email mail:readx' } }, '/mail')).statusCode, 403)

  const admin = { roles: ['admin'], department: { name: 'finance' } }
  t.equal((await sendToken({ overrides: admin }, '/admin')).statusCode, 200)
  const lacking = await sendToken({ overrides: { ...admin, department: { name: 'it' } } }, '/admin')
  t.match([lacking.statusCode, lacking.json().code], [403, 'FST_OIDC_FORBIDDEN'])
  t.notMatch(challenges(lacking)[0], /insufficient_scope/)

  const now = Math.floor(Date.now() / 1000)
  t.equal((await sendToken({ overrides: { auth_time: now - 10 } }, '/fresh')).statusCode, 200)
  const old = await sendToken({ overrides: { auth_time: now - 1000 } }, '/fresh')
  t.equal(old.statusCode, 401)
  t.match(
    challenges(old)[0],
    /^Bearer error="insufficient_user_authentication", error_description="[^"]+", max_age="60"/
  )
  t.equal((await sendToken({ overrides: { acr: 'gold' } }, '/gold')).statusCode, 200)
  t.match(
    challenges(await sendToken({ overrides: { acr: '1' } }, '/gold'))[0],
    /error="insufficient_user_authentication".*acr_values="gold platinum"/
  )

  const cookie = sessionCookie(app)
  t.match((await send(undefined, '/api', { cookie })).json(), {
    sub: 'alice',
    token: null,
    session: { provider: 'default' }
  })
  t.match(
    (await send(`Bearer ${tokenOf(provider, { sub: 'bob' })}`, '/api', { cookie })).json(),
    { sub: 'bob', session: null },
    'the token takes precedence over the session'
  )
  t.equal(
    (await send('Bearer x', '/api', { cookie })).statusCode,
    401,
    'an invalid token is refused in spite of the session'
  )
  t.equal((await send(undefined, '/pure', { cookie })).statusCode, 401)
  const crossSite = { cookie, origin: 'https://other.example' }
  t.equal((await app.inject({ method: 'POST', url: '/api', headers: crossSite })).statusCode, 403, 'S43')
  const plain = await buildApp(t, optionsFor(provider))
  t.match(
    (await plain.inject({ url: '/me', headers: { authorization: `Bearer ${tokenOf(provider)}` } })).json(),
    { code: 'FST_OIDC_LOGIN_REQUIRED' },
    'without "bearer" the Authorization header is ignored'
  )
})

t.test('S76 the application publishes the metadata of the protected resource', async (t) => {
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
  t.match(
    challenges(refused)[0],
    `resource_metadata="${METADATA}/v1"`,
    'V21 the URL comes from the options, not from the request'
  )
  t.equal((await app.inject({ method: 'POST', url: '/.well-known/oauth-protected-resource' })).statusCode, 405)
  const plain = await buildApp(t, optionsFor(provider))
  t.equal((await plain.inject('/.well-known/oauth-protected-resource')).statusCode, 404)
})

t.test('a cached token expires with the token and with its key', async (t) => {
  const clock = stopClock(t)
  const { app, provider, send } = await start(t)
  const token = tokenOf(provider, { overrides: { exp: Math.floor(Date.now() / 1000) + 60 } })
  t.equal((await send(`Bearer ${token}`)).statusCode, 200)
  clock.advance(59)
  t.equal((await send(`Bearer ${token}`)).statusCode, 200)
  clock.advance(32)
  t.equal((await send(`Bearer ${token}`)).statusCode, 401)
  const long = tokenOf(provider, { overrides: { exp: Math.floor(Date.now() / 1000) + 86_400 } })
  t.equal((await send(`Bearer ${long}`)).statusCode, 200)
  clock.advance(601)
  provider.clearRequests()
  t.equal((await send(`Bearer ${long}`)).statusCode, 200)
  await until(() => provider.requests.length > 0)
  t.same(
    provider.requests.map(({ endpoint }) => endpoint),
    ['jwks'],
    'the cached token does not stop the refresh of the keys'
  )
  const tampered = long.replace(/^(.{60})./, (_, start: string) =>
    `${start}!`.replace('!', start.endsWith('A') ? 'B' : 'A')
  )
  t.equal(
    (await send(`Bearer ${tampered}`)).statusCode,
    401,
    'another token with the same signature is not the cached one'
  )
  await app.oidc.sessions.revoke({ sub: 'alice' })
  t.equal((await send(`Bearer ${long}`)).statusCode, 200, 'a JWT is valid until it expires')
})

t.test('R9 a forged token does not clear the cache of verified tokens', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API } })
  const token = tokenWith(provider)
  for (let times = 0; times < 3; times++) await call(app, '/me', token)
  const before = provider.count('jwks')
  t.equal(
    (await call(app, '/me', provider.accessToken({ sub: 'x', signWith: 'unknown-kid', overrides: { aud: API } })))
      .status,
    401
  )
  t.equal(provider.count('jwks'), before + 1, 'the key set is fetched once more')
  t.equal((await call(app, '/me', token)).status, 200)
})

/** A guard's view of a provider that accepts every token, and counts. */
function startVerifying () {
  const state = { keys: {}, meanwhile: (): void => {}, verified: 0 }
  const provider = {
    name: 'default',
    settings: { issuer: 'https://op.example.com', clientId: 'web', clockTolerance: 0 },
    keys: () => state.keys,
    async verifyAccessToken () {
      state.verified += 1
      state.meanwhile()
      return { sub: 'alice', client_id: 'web', exp: Math.floor(Date.now() / 1000) + 600 }
    }
  }
  const providers = {
    all: () => [provider],
    find: async () => provider,
    known: () => provider,
    revision: () => 0
  } as unknown as Providers
  const settings = parseOptions({
    issuer: 'https://op.example.com',
    clientId: 'web',
    clientSecret: 'x',
    baseUrl: BASE_URL,
    session: { key: SESSION_KEY },
    bearer: { audience: API }
  }).bearer as BearerSettings
  const bearer = createBearer(settings, {
    own: [],
    peers: [],
    providers,
    proofs: undefined
  })
  const payload = Buffer.from(JSON.stringify({ iss: 'https://op.example.com' })).toString('base64url')

  /** Returns how often a token was verified so far. */
  async function verifications (signature = 's'.repeat(43)): Promise<number> {
    const authorization = `Bearer e30.${payload}.${signature}`
    const request = {
      headers: { authorization },
      raw: { rawHeaders: ['Authorization', authorization] }
    } as unknown as FastifyRequest
    await bearer.verify(request, { providers: undefined })
    return state.verified
  }

  return { state, verifications }
}

t.test('V19 a token is verified again when the keys change during its verification', async (t) => {
  const { state, verifications } = startVerifying()
  t.equal(await verifications(), 1)
  state.meanwhile = () => { state.keys = {} }
  t.equal(await verifications(), 2)
  state.meanwhile = () => {}
  t.equal(await verifications(), 3, 'the token is verified again with the new keys')
  t.equal(await verifications(), 3)
})

t.test('R32 at most 10,000 verified tokens are kept', async (t) => {
  const { verifications } = startVerifying()
  const { random } = Math
  t.teardown(() => { Math.random = random })
  Math.random = () => 0 // all come into a full cache
  const twice = async (number: number): Promise<number> => {
    await verifications(keyBytes(number).toString('base64url'))
    return await verifications(keyBytes(number).toString('base64url'))
  }
  for (let number = 0; number < 10_000; number++) await twice(number)
  t.equal(await twice(0), 20_000, 'those that came twice are kept')
  t.same([await twice(10_000), await twice(1)], [20_002, 20_002])
  t.ok(await twice(0) > 20_002, 'past the limit the oldest is verified again')
})

t.test('V19 a cached token is refused after its signing key was removed', async (t) => {
  const clock = stopClock(t)
  const provider = await startProvider({ deviceInterval: 1 })
  t.teardown(async () => await provider.close())
  const app = await buildApp(t, optionsFor(provider, { store: 'memory:', broker: { audience: API } }))
  const { byDevice, api } = clientsOf(app, provider)
  const { access_token: real } = await byDevice()
  const { key, alg, kid } = await (partsOf(app.oidc).broker as Broker).keys.current()
  const claims = { ...decodeJwt(real), sub: 'mallory', exp: Math.floor(Date.now() / 1000) + 1_000_000 }
  const forged = await new SignJWT(claims).setProtectedHeader({ alg, kid, typ: 'at+jwt' }).sign(key)
  for (let times = 0; times < 3; times++) {
    t.equal((await api(forged)).statusCode, 200, 'the signature is valid as long as the key is published')
  }
  for (let times = 0; times < 3; times++) {
    await app.oidc.broker.rotateKeys()
    clock.advance(2400)
  }
  t.notOk((await app.inject('/auth/.well-known/jwks.json')).json().keys.some((key: { kid: string }) => key.kid === kid))
  t.equal((await api(forged)).statusCode, 401)
})

t.test('a handler cannot change the claims of a cached token', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API } })
  app.get('/claims', { preHandler: app.oidc.required() }, async ({ oidcClaims }) =>
    (oidcClaims?.['realm_access'] as { roles: string[] }).roles.push('admin')
  )
  app.get('/scopes', { preHandler: app.oidc.required() }, async ({ oidcToken }) => oidcToken?.scopes.push('root'))
  app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, identity)
  app.get('/root', { preHandler: app.oidc.required({ scopes: 'root' }) }, identity)
  const token = tokenWith(provider, { realm_access: { roles: ['user'] } })
  for (let times = 0; times < 3; times++) {
    for (const [url, status] of [
      ['/claims', 500],
      ['/scopes', 500],
      ['/admin', 403],
      ['/root', 403]
    ] as const) { t.equal((await call(app, url, token)).status, status, url) }
  }
})

t.test('S40 a shared cache does not keep a response to an access token', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API } })
  let control: string | undefined
  app.get('/api', { preHandler: app.oidc.optional() }, async ({ oidcClaims }, reply) => {
    if (control !== undefined) reply.header('cache-control', control)
    return { sub: oidcClaims?.sub ?? null }
  })
  const authorization = `Bearer ${tokenWith(provider)}`
  for (const [own, sent] of [
    ['public, max-age=60', 'no-store'],
    ['s-maxage=60', 'no-store'],
    ['private, max-age=60', 'private, max-age=60'],
    [undefined, undefined]
  ]) {
    control = own
    const { headers, payload } = await app.inject({ url: '/api', headers: { authorization } })
    t.same([payload, headers['cache-control']], ['{"sub":"alice"}', sent])
    if (own === undefined) continue
    t.equal((await app.inject('/api')).headers['cache-control'], sent, 'the header is the same without a token')
  }
})

t.test('S75 a certificate-bound token is valid only with its certificate', async (t) => {
  const mine = testCertificate()
  const der = Buffer.from(mine.cert.replace(/-----[^-]+-----|\s/g, ''), 'base64')
  const { app, provider } = await start(t, {
    clientCertificate: ({ headers }) =>
      headers['x-client-cert'] === 'pem'
        ? mine.cert
        : headers['x-client-cert'] === 'der'
          ? der
          : headers['x-client-cert'] === 'other'
            ? testCertificate().cert
            : undefined
  })
  const token = provider.accessToken({
    sub: 'alice',
    overrides: { aud: API, cnf: { 'x5t#S256': createHash('sha256').update(der).digest('base64url') } }
  })
  const status = async (certificate: string): Promise<number> =>
    (await app.inject({ url: '/me', headers: { authorization: `Bearer ${token}`, 'x-client-cert': certificate } }))
      .statusCode
  t.same([await status('pem'), await status('der'), await status('other'), await status('none')], [200, 200, 401, 401])

  const tls = await buildApp(t, optionsFor(provider, { bearer: { audience: API } }), {
    https: { key: mine.key, cert: mine.cert, ca: mine.cert, requestCert: true, rejectUnauthorized: false }
  } as never)
  await tls.listen({ port: 0, host: '127.0.0.1' })
  const { port } = tls.server.address() as { port: number }
  const overTls = async (certificate: object): Promise<number> =>
    await new Promise((resolve, reject) => {
      httpsRequest(
        {
          port,
          host: '127.0.0.1',
          path: '/me',
          rejectUnauthorized: false,
          headers: { authorization: `Bearer ${token}` },
          ...certificate
        },
        (response) => {
          response.resume()
          resolve(response.statusCode as number)
        }
      )
        .on('error', reject)
        .end()
    })
  t.same(
    [await overTls({ key: mine.key, cert: mine.cert }), await overTls({})],
    [200, 401],
    'the certificate of the TLS connection counts'
  )
  const plain = await buildApp(t, optionsFor(provider, { bearer: { audience: API } }))
  t.equal(
    (await plain.inject({ url: '/me', headers: { authorization: `Bearer ${token}`, 'x-client-cert': 'pem' } }))
      .statusCode,
    401,
    'without TLS no header counts as a certificate'
  )
})

t.test('S82 invalid options are refused', async (t) => {
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
    [{ audience: API, clients: 'svc' }, /"bearer.clients"/],
    [{ audience: API, clients: [''] }, /"bearer.clients"/],
    [{ audience: API, introspectionAudience: 'none' }, /"bearer.introspectionAudience"/],
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
