import t from 'tap'
import { startApp } from '../support/app.ts'
import { API, METADATA, call, challenges, identity, start, tokenOf, tokenWith } from '../support/bearer.ts'
import type { AccessTokenOptions, SignWith } from '../../lib/testing/index.ts'

t.test('V17 V31 S71 an invalid token is refused with a challenge', async (t) => {
  const { provider, send, sendToken } = await start(t)
  const now = Math.floor(Date.now() / 1000)
  const wrong: Record<string, AccessTokenOptions> = {
    'another audience': { overrides: { aud: 'https://other.example.com' } },
    'an audience with the same prefix': { overrides: { aud: `${API}.evil.test` } },
    'no audience': { overrides: { aud: undefined } },
    'another issuer': { overrides: { iss: 'https://evil.test' } },
    'a list of issuers': { overrides: { iss: [provider.issuer, 'https://evil.test'] } },
    'no issuer': { overrides: { iss: undefined } },
    expired: { overrides: { exp: now - 31 } },
    'no exp': { overrides: { exp: undefined } },
    'exp a string': { overrides: { exp: String(now + 60) } },
    'not valid yet': { overrides: { nbf: now + 60 } },
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
      const answer = await sendToken(options, url)
      t.match(
        [answer.statusCode, answer.json()],
        [401, { code: 'FST_OIDC_TOKEN', message: 'The access token is not valid.' }],
        `${url} ${name}`
      )
      t.same(challenges(answer), [
        'Bearer error="invalid_token", error_description="The access token is not valid.", ' +
          `resource_metadata="${METADATA}"`
      ])
    }
  }
  for (const [name, token] of Object.entries({
    'an ID token': provider.idToken({ sub: 'alice', overrides: { aud: API } }),
    'an ID token with the typ of an access token': provider.idToken({
      sub: 'alice',
      overrides: { aud: API },
      header: { typ: 'at+jwt' }
    }),
    'no JWT': 'opaque',
    'no JSON': 'a.b.c',
    'too long': 'x'.repeat(17_000)
  })) t.match((await send(`Bearer ${token}`)).json(), { code: 'FST_OIDC_TOKEN' }, name)
  t.equal((await sendToken()).statusCode, 200)
})

t.test('S72 a client is not a user', async (t) => {
  const { sendToken } = await start(t)
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
    t.match((await sendToken(options)).json(), { code: 'FST_OIDC_FORBIDDEN' }, JSON.stringify(overrides))
    t.match((await sendToken(options, '/jobs')).json(), { token: { isClient: true } })
    t.equal((await sendToken(options, '/both')).statusCode, 200)
  }
  t.match((await sendToken({}, '/jobs')).json(), { code: 'FST_OIDC_FORBIDDEN' }, 'a user is not a client')
  t.match((await sendToken({}, '/both')).json(), { token: { isClient: false } })
})

t.test('S72 a subject is text, and an application in Microsoft Entra ID is not a user', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API } })
  app.get('/api', { preHandler: app.oidc.required() }, identity)
  for (const claims of [
    ...[null, '', 0, 7, ['alice'], {}, true].map((sub) => ({ sub })),
    ...[null, {}, 5].flatMap((value) => [{ client_id: value }, { jti: value }])
  ]) {
    t.equal((await call(app, '/api', tokenWith(provider, claims))).status, 401, JSON.stringify(claims))
  }
  const { app: lax, provider: entra } = await startApp(t, { bearer: { audience: API, strictType: false } })
  lax.get('/api', { preHandler: lax.oidc.required() }, identity)
  const claims = {
    client_id: undefined,
    scope: undefined,
    sub: 'b0',
    oid: 'b0',
    appid: 'another app',
    appidacr: '1',
    ver: '1.0',
    roles: ['Reports.Read']
  }
  t.equal((await call(lax, '/api', tokenWith(entra, claims))).status, 403, 'an application in Microsoft Entra ID')
  for (const oid of ['c1', 'b0']) {
    t.equal(
      (await call(lax, '/api', tokenWith(entra, { ...claims, oid, scp: 'read' }))).status,
      200,
      'a user, also one of Azure AD B2C'
    )
  }
  for (const kind of [
    { token_use: 'refresh' },
    { token_use: 'id' },
    { typ: 'Refresh' },
    { typ: 'Offline' },
    { typ: 'ID' }
  ]) {
    t.equal((await call(lax, '/api', tokenWith(entra, kind))).status, 401, JSON.stringify(kind))
  }
})

t.test('S71 with strictType false unmarked access tokens are accepted, but no ID tokens', async (t) => {
  const { sendToken, send, provider } = await start(t, { strictType: false })
  for (const options of [
    { header: { typ: 'JWT' } },
    { header: { typ: undefined } },
    { overrides: { client_id: undefined, scope: undefined, cid: 'web', jti: undefined } },
    { overrides: { scope: undefined, scp: 'x', client_id: undefined } }
  ]) {
    t.equal((await sendToken(options)).statusCode, 200, JSON.stringify(options))
  }
  for (const overrides of [
    { nonce: 'x' },
    { at_hash: 'x' },
    { token_use: 'id' },
    { typ: 'ID' },
    { events: {} },
    { scope: undefined, client_id: undefined }
  ]) {
    t.equal((await sendToken({ overrides })).statusCode, 401, JSON.stringify(overrides))
  }
  t.equal((await send(`Bearer ${provider.idToken({ sub: 'alice', overrides: { aud: API } })}`)).statusCode, 401)
  t.match(
    (await sendToken({ overrides: { sub: undefined, client_id: 'web' } }, '/jobs')).json(),
    { sub: 'web', token: { isClient: true } },
    'a token without sub is a token of the client'
  )
  t.match((await sendToken({ overrides: { sub: undefined, client_id: undefined } }, '/jobs')).json(), {
    sub: '',
    token: { isClient: true }
  })
  t.match(
    (await sendToken({ overrides: { client_id: undefined } })).json(),
    { sub: 'alice', token: { isClient: false } },
    'the provider does not name the client'
  )
})

t.test('R9 S66 V19 new keys are fetched, and forged tokens do not flood the provider', async (t) => {
  const { provider, sendToken, send } = await start(t)
  const before = tokenOf(provider)
  t.equal((await send(`Bearer ${before}`)).statusCode, 200)
  provider.clearRequests()
  for (let count = 0; count < 50; count++) t.equal((await send(`Bearer ${before}`)).statusCode, 200)
  t.same(provider.requests, [], 'a verified token is not verified again')
  await provider.rotateKeys()
  t.equal((await sendToken()).statusCode, 200, 'a new key is fetched at once')
  t.equal(
    (await send(`Bearer ${before}`)).statusCode,
    401,
    'a cached token of a removed key is refused'
  )
  provider.clearRequests()
  const statuses = await Promise.all(
    Array.from({ length: 500 }, async () => (await sendToken({ signWith: 'unknown-kid' })).statusCode)
  )
  t.same([...new Set(statuses)], [401])
  t.ok(provider.requests.length <= 10, `${provider.requests.length} requests`)
  t.equal((await sendToken()).statusCode, 200)
  provider.clearRequests()
  await Promise.all(
    Array.from(
      { length: 200 },
      async (_, index) => await sendToken({ overrides: { iss: `https://evil${index}.test` } })
    )
  )
  t.same(provider.requests, [], 'an unknown issuer gets no request')
})
