import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose'
import t from 'tap'
import { refuse } from '../../index.ts'
import { BASE_URL, logIn, stopClock } from '../support/app.ts'
import { AUDIENCE, DEVICE, exchange, refresh, start, startExchange } from '../support/broker.ts'
import type { Options, Tokens } from '../support/broker.ts'

t.test('S71 the broker issues access tokens after RFC 9068, with each signing algorithm', async (t) => {
  stopClock(t)
  for (const signingAlg of ['ES256', 'EdDSA', 'RS256'] as const) {
    const { app, provider, byDevice, api } = await start(t, {
      broker: { signingAlg, claims: ({ email }) => ({ mail: email, iss: 'https://evil.test', exp: 9e9, cnf: {} }) }
    })
    const { access_token: token, ...answer } = await byDevice()
    t.match(answer, {
      token_type: 'Bearer',
      expires_in: 900,
      scope: 'openid profile email offline_access',
      refresh_token: String,
      refresh_expires: Number,
      expires: Number
    })
    t.equal(answer['expires'] as number, decodeJwt(token).exp)
    t.match(decodeProtectedHeader(token), { alg: signingAlg, typ: 'at+jwt', kid: /^[\w-]{43}$/ })
    const payload = decodeJwt(token)
    t.match(payload, {
      iss: BASE_URL,
      aud: AUDIENCE,
      sub: 'alice',
      client_id: 'web',
      idp: 'default',
      roles: Array,
      mail: String,
      preferred_username: 'alice'
    })
    t.notOk('cnf' in payload)
    t.ok((payload.jti as string).startsWith(`${payload['sid'] as string}.`))
    t.equal((payload.exp as number) - (payload.iat as number), 900)
    const jwks = await app.inject('/auth/.well-known/jwks.json')
    t.match(jwks.headers, {
      'cache-control': 'public, max-age=300',
      'content-type': /^application\/jwk-set\+json/,
      'access-control-allow-origin': '*'
    })
    t.match(jwks.json(), { keys: [{ kid: decodeProtectedHeader(token).kid, alg: signingAlg, use: 'sig' }] })
    for (const secret of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'k']) {
      t.notOk(secret in jwks.json().keys[0], `V30 no private ${secret}`)
    }
    t.match(
      [(await api(token)).statusCode, (await api(token)).json()],
      [200, { claims: { sub: 'alice' }, token: { provider: 'default', clientId: 'web', isClient: false } }]
    )
    t.equal((await api(`${token.slice(0, -4)}AAAA`)).statusCode, 401)
    t.equal(provider.count('jwks'), 1, 'only the ID token needs a key of the provider')
  }
})

t.test('a JWT library verifies an access token with the published keys', async (t) => {
  const { app, byDevice } = await start(t)
  const { access_token: token } = await byDevice()
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as { port: number }
  const { payload } = await jwtVerify(
    token,
    createRemoteJWKSet(new URL(`http://127.0.0.1:${port}/auth/.well-known/jwks.json`)),
    { issuer: BASE_URL, audience: AUDIENCE, typ: 'at+jwt' }
  )
  t.equal(payload.sub, 'alice')
})

t.test('broker.claims and broker.onIssue add claims, and change no reserved claim', async (t) => {
  const seen: unknown[] = []
  const { byDevice, post, token, provider } = await start(t, {
    broker: {
      claims: (claims, { grantType, clientId, provider }) => ({
        team: 'blue',
        sub: 'mallory',
        context: [claims.sub, grantType, clientId, provider]
      }),
      onIssue: async (payload) => {
        seen.push([payload['team'], payload['jti']])
        if (payload['sub'] === 'bob') throw refuse('not him')
        return { level: 3, aud: 'other', scope: 'openid' }
      }
    }
  })
  const payload = decodeJwt((await byDevice()).access_token)
  t.match(payload, {
    team: 'blue',
    level: 3,
    sub: 'alice',
    aud: AUDIENCE,
    scope: 'openid',
    context: ['alice', DEVICE, 'web', 'default']
  })
  t.same(seen, [['blue', payload.jti]], 'onIssue receives the claims that are signed')
  const { device_code: deviceCode } = (await post('device', {})).json()
  provider.approveDevice(undefined, 'bob')
  t.match((await token({ grant_type: DEVICE, device_code: deviceCode })).json(), { error: 'access_denied' })
})

t.test('K12 a fault in broker.claims or broker.onIssue is no refusal', async (t) => {
  const broken = (status?: number) => () => { throw Object.assign(new Error('10.0.0.1 is down'), { status }) }
  const cases: Array<[broker: Options['broker'] & object, status: number, error: string]> = [
    [{ claims: broken() }, 500, 'server_error'],
    [{ onIssue: broken() }, 500, 'server_error'],
    [{ claims: async () => await new Promise(() => {}) }, 503, 'temporarily_unavailable'],
    [{ onIssue: async () => await new Promise(() => {}) }, 503, 'temporarily_unavailable'],
    [{ claims: broken(503) }, 503, 'temporarily_unavailable'],
    [{ onIssue: broken(502) }, 502, 'server_error']
  ]
  for (const [broker, status, error] of cases) {
    const { post, token, provider } = await start(t, { broker, hookTimeout: 0.1 })
    const { device_code: deviceCode } = (await post('device', {})).json()
    provider.approveDevice()
    const answer = await token({ grant_type: DEVICE, device_code: deviceCode })
    t.match([answer.statusCode, answer.json()], [status, { error }])
    t.notMatch(answer.body, '10.0.0.1')
  }
})

t.test('a claim of onIssue that JSON cannot hold is a server error', async (t) => {
  const { post, token, provider } = await start(t, { broker: { onIssue: () => ({ big: 1n }) } })
  const { device_code: deviceCode } = (await post('device', {})).json()
  provider.approveDevice()
  const answer = await token({ grant_type: DEVICE, device_code: deviceCode })
  t.match(
    [answer.statusCode, answer.json()],
    [500, { error: 'server_error', error_description: 'Something went wrong.' }]
  )
})

t.test('S72 the client_id of a request does not decide the roles of a user', async (t) => {
  const access = { resource_access: { web: { roles: ['reader'] }, cli: { roles: ['admin'] } } }
  const roleClaims = ['resource_access.{clientId}.roles']
  const world = await start(t, { roleClaims })
  world.provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, ...access }) })
  const { device_code: deviceCode } = (await world.post('device', { client_id: 'cli' })).json()
  world.provider.approveDevice(undefined, 'alice')
  const { access_token: token } = (
    await world.token({ grant_type: DEVICE, device_code: deviceCode, client_id: 'cli' })
  ).json()
  t.match(
    decodeJwt(token),
    { client_id: 'cli', roles: ['reader'] },
    'the roles are those of the client_id of this application at the provider'
  )
  t.equal((await world.api(token, '/admin')).statusCode, 403)

  const other = await startExchange(t, { roleClaims })
  const answer = (await exchange(other, other.subject(access), { client_id: 'cli' })).json()
  t.same(decodeJwt(answer.access_token)['roles'], ['reader'])
})

t.test('a narrower scope narrows the claims, the token and UserInfo', async (t) => {
  const world = await startExchange(t, {
    broker: { claims: (claims) => ({ ...claims, scope: 'openid profile email admin' }) }
  })
  t.equal(
    (await exchange(world, world.subject({ scope: 'openid email profile' }), { scope: 'email' })).json().scope,
    'email',
    'the claims do not change the scope'
  )

  const plain = await start(t)
  const first = await plain.byDevice()
  const whole = await plain.app.inject({
    url: '/auth/userinfo',
    headers: { authorization: `Bearer ${first.access_token}` }
  })
  t.match(whole.json(), { sub: 'alice', username: 'alice', email: 'alice@example.com' })
  const narrow: Tokens = (await refresh(plain, first, { scope: 'openid' })).json()
  const payload = decodeJwt(narrow.access_token)
  t.match([payload['email'], payload['preferred_username']], [undefined, undefined])
  const userinfo = await plain.app.inject({
    url: '/auth/userinfo',
    headers: { authorization: `Bearer ${narrow.access_token}` }
  })
  t.same(userinfo.json(), {
    sub: 'alice',
    username: '',
    last_name: '',
    first_name: '',
    pw_name: '',
    email: ''
  }, 'K16 as py-oidc-auth: what is missing is an empty text')
})

t.test('the userinfo route answers to an access token', async (t) => {
  const { app, api, byDevice, provider } = await start(t, { bearer: { audience: 'https://web.example.com' } })
  const { access_token: token } = await byDevice()
  t.match((await api(token, '/auth/userinfo')).json(), { sub: 'alice', username: 'alice', email: 'alice@example.com' })
  const bad = await api('x.y.z', '/auth/userinfo')
  t.match(
    [bad.statusCode, bad.headers['www-authenticate'], bad.json().code],
    [401, /error="invalid_token"/, 'FST_OIDC_TOKEN']
  )
  const ofClient = provider.accessToken({ sub: 'web', overrides: { aud: 'https://web.example.com' } })
  t.equal((await api(ofClient, '/auth/userinfo')).statusCode, 403)
  t.match(
    (
      await api(
        provider.accessToken({
          sub: 'bob',
          overrides: { aud: 'https://web.example.com', user_name: 'bobby', given_name: '' }
        }),
        '/auth/userinfo'
      )
    ).json(),
    { sub: 'bob', username: 'bobby', pw_name: 'bobby', first_name: '' }
  )
  const browser = await logIn({ app, provider }, 'alice')
  t.match(
    (await browser.fetch('/auth/userinfo')).json(),
    { sub: 'alice', name: String },
    'a session gets the claims of the provider'
  )
})
