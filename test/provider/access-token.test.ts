import { createHash } from 'node:crypto'
import t from 'tap'
import { startApp } from '../support/app.ts'
import { startedClock } from '../support/started.ts'
import { API, METADATA, call, challenges, identity, start, tokenOf, tokenWith } from '../support/bearer.ts'
import type { AccessTokenOptions, SignWith } from '../../lib/testing/index.ts'

t.test('V17 V31 S71 an invalid token is refused with a challenge', async (t) => {
  const clock = startedClock(t)
  const { provider, send, sendToken } = await start(t)
  const wrong = (now = Math.floor(Date.now() / 1000)): Record<string, AccessTokenOptions> => ({
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
  })
  for (const url of ['/api', '/pure', '/any']) {
    for (const [name, options] of Object.entries(wrong())) {
      // Each of these may fetch the keys.
      if ('signWith' in options) clock.advance(1)
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
  // K8: without a sign that no user can choose, a client must be named in "bearer.clients".
  const { sendToken } = await start(t, { clients: ['web', 'My-App'] })
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
    { at_hash: 'x' },
    { token_use: 'id' },
    { typ: 'ID' },
    { events: {} },
    { scope: undefined, client_id: undefined }
  ]) {
    t.equal((await sendToken({ overrides })).statusCode, 401, JSON.stringify(overrides))
  }
  t.equal((await send(`Bearer ${provider.idToken({ sub: 'alice', overrides: { aud: API } })}`)).statusCode, 401)
  t.equal((await sendToken({ overrides: { nonce: 'x' }, header: { typ: 'JWT' } })).statusCode, 401, 'nonce')
  t.match(
    (await sendToken({ overrides: { sub: undefined, client_id: 'web', gty: 'client-credentials' } }, '/jobs')).json(),
    { sub: 'web', token: { isClient: true } },
    'a token of a client without sub'
  )
  const nameless = { sub: undefined, client_id: undefined, gty: 'client-credentials' }
  t.match((await sendToken({ overrides: nameless }, '/jobs')).json(), { code: 'FST_OIDC_FORBIDDEN' })
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
  t.same([...new Set(statuses)].filter((status) => status !== 503), [401])
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

t.test('K8 an access token of Keycloak with at+jwt names its client in azp', async (t) => {
  for (const strictType of [true, false]) {
    const { sendToken } = await start(t, { strictType })
    const keycloak = { client_id: undefined, azp: 'web', typ: 'Bearer', nonce: 'n' }
    t.match((await sendToken({ overrides: keycloak })).json(), { sub: 'alice', token: { clientId: 'web' } })
    for (const overrides of [
      ...[undefined, null, 5, ['web']].map((azp) => ({ azp, ...(strictType ? {} : { typ: 'ID' }) })),
      { client_id: null, ...(strictType ? {} : { typ: 'ID' }) },
      { typ: 'ID' },
      { typ: 'Refresh' },
      { token_use: 'id' },
      { at_hash: 'x' },
      { c_hash: 'x' },
      { events: {} }
    ]) {
      const { statusCode } = await sendToken({ overrides: { ...keycloak, ...overrides } })
      t.equal(statusCode, 401, `${String(strictType)} ${JSON.stringify(overrides)}`)
    }
  }
})

t.test('K8 only the mark of the issuer outweighs a nonce', async (t) => {
  const { sendToken } = await start(t, { strictType: false })
  const status = async (overrides: Record<string, unknown>, typ: string): Promise<number> =>
    (await sendToken({ overrides: { nonce: 'n', ...overrides }, header: { typ } })).statusCode
  t.same([await status({ typ: 'Bearer' }, 'JWT'), await status({ typ: 'DPoP' }, 'JWT')], [200, 200])
  t.same([await status({}, 'at+jwt'), await status({}, 'application/at+jwt')], [200, 200])
  for (const typ of [undefined, 'JWT', 'ID', 5, ['Bearer']]) t.equal(await status({ typ }, 'JWT'), 401, String(typ))
  for (const sign of [{ at_hash: 'x' }, { c_hash: 'x' }, { events: {} }, { token_use: 'id' }]) {
    t.equal(await status({ typ: 'Bearer', ...sign }, 'at+jwt'), 401, JSON.stringify(sign))
  }
  const marked = { scope: undefined, client_id: undefined, azp: 'web', typ: 'Bearer' }
  t.equal((await sendToken({ overrides: marked, header: { typ: 'JWT' } })).statusCode, 200, 'the mark alone is enough')
})

t.test('K8 the client of a token of Amazon Cognito stands for the API', async (t) => {
  const cognito = { aud: undefined, token_use: 'access', client_id: 'pool-client', username: 'alice', jti: 'x' }
  const lax = await start(t, { audience: [API, 'pool-client'], strictType: false })
  t.match((await lax.sendToken({ overrides: cognito })).json(), { sub: 'alice', token: { clientId: 'pool-client' } })
  for (const overrides of [
    { client_id: 'other' },
    { client_id: undefined },
    { token_use: undefined },
    { token_use: 'id' },
    { aud: 'other' },
    { aud: [] },
    { aud: null }
  ]) {
    const { statusCode } = await lax.sendToken({ overrides: { ...cognito, ...overrides } })
    t.equal(statusCode, 401, JSON.stringify(overrides))
  }
  const strict = await start(t, { audience: [API, 'pool-client'] })
  t.equal((await strict.sendToken({ overrides: cognito })).statusCode, 401)
})

t.test('K8 unknown members of cnf are ignored beside one that is checked', async (t) => {
  const { sendToken } = await start(t, { clientCertificate: () => Buffer.from('certificate') })
  const thumbprint = createHash('sha256').update('certificate').digest('base64url')
  const status = async (cnf: Record<string, unknown>): Promise<number> =>
    (await sendToken({ overrides: { cnf } })).statusCode
  t.equal(await status({ 'x5t#S256': thumbprint, 'kc-jkt-type': 'x', kid: 'y' }), 200)
  for (const cnf of [
    { 'x5t#S256': 'other', 'kc-jkt-type': 'x' },
    { 'kc-jkt-type': 'x' },
    { jwk: {} },
    { 'x5t#S256': null, kid: 'y' },
    { jkt: null, kid: 'y' },
    { jkt: 'x', 'x5t#S256': thumbprint }
  ]) t.equal(await status(cnf), 401, JSON.stringify(cnf))
})

t.test('K8 the log says which audience a token has', async (t) => {
  const lines: string[] = []
  const { app, provider } = await startApp(t, { bearer: { audience: API } }, {}, {
    logger: { level: 'info', stream: { write: (line: string) => { lines.push(line) } } }
  })
  await call(app, '/me', provider.accessToken({ overrides: { aud: ['account', 'other'] } }))
  t.match(lines.join(''), /aud was \[\\"account\\",\\"other\\"\], \\"bearer.audience\\" is https:\/\/api\.example\.com/)
})
