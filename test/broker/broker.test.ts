import { randomBytes } from 'node:crypto'
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose'
import fc from 'fast-check'
import t from 'tap'
import { isAllowedRedirect } from '../../lib/broker/native-login.ts'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { client, faults, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor, startApp, stopClock } from '../support/app.ts'
import {
  AUDIENCE, DEVICE, EXCHANGE, REDIRECT_URI, pkce, programs, refusal, start, untilNative
} from '../support/broker.ts'
import { faultyStore } from '../support/modes.ts'
import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import type { JWTPayload } from 'jose'
import type { BrokerOptions, OidcOptions } from '../../index.ts'
import type { Provider } from '../../lib/testing/index.ts'
import type { Tokens } from '../support/broker.ts'

t.test('S71 an access token of the broker: RFC 9068, and its keys', async (t) => {
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
    t.equal(provider.count('jwks'), 1, 'only the ID token needed a key of the provider')
  }
})

t.test('the keys of several processes, and their rotation', async (t) => {
  const clock = stopClock(t)
  const store = createMemoryStore()
  const provider = await startProvider({ deviceInterval: 1 })
  t.teardown(async () => await provider.close())
  const options = optionsFor(provider, { store, broker: { audience: AUDIENCE, keyLifetime: 86_400 } })
  const all = await Promise.all(Array.from({ length: 4 }, async () => programs(await buildApp(t, options), provider)))
  const kids = async ({ app }: { app: FastifyInstance }): Promise<string[]> =>
    (await app.inject('/auth/.well-known/jwks.json')).json().keys.map(({ kid }: { kid: string }) => kid)
  const lists = await Promise.all(all.map(kids))
  t.equal(new Set(lists.flat()).size, 1, 'V31 four that start at once have one key')
  const [one, two] = all as [typeof all[0] & object, typeof all[0] & object]
  const old = (await one.byDevice()).access_token
  t.equal((await two.api(old)).statusCode, 200)

  await one.app.oidc.broker.rotateKeys()
  const published = await kids(one)
  t.equal(published.length, 2, 'the new one is published')
  t.equal(decodeProtectedHeader((await one.byDevice()).access_token).kid, published[0], 'but does not sign yet')
  clock.advance(601)
  const fresh = (await two.byDevice()).access_token
  t.equal(decodeProtectedHeader(fresh).kid, published[1], 'then it does, everywhere')
  t.same([(await one.api(fresh)).statusCode, (await one.api(old)).statusCode], [200, 200], 'and the old one verifies')
  clock.advance(1600)
  await one.app.oidc.broker.rotateKeys()
  t.equal((await kids(one)).includes(published[0] as string), false, 'until its last token has expired')
  clock.advance(90_000)
  const last = await kids(two)
  clock.advance(61)
  t.equal((await kids(two)).length, last.length, 'on schedule once')
  t.notSame(last, published)
  const changed = programs(
    await buildApp(t, { ...options, broker: { audience: AUDIENCE, signingAlg: 'EdDSA' } }),
    provider
  )
  t.ok(
    (await changed.app.inject('/auth/.well-known/jwks.json'))
      .json()
      .keys.some(({ alg }: { alg: string }) => alg === 'EdDSA'),
    'another algorithm begins with a new key'
  )
})

t.test('S58 the key of the session is rotated, and grants and keys stay', async (t) => {
  const store = createMemoryStore()
  const provider = await startProvider({ deviceInterval: 1 })
  t.teardown(async () => await provider.close())
  const start = async (...keys: string[]): Promise<ReturnType<typeof programs>> =>
    programs(
      await buildApp(t, optionsFor(provider, { store, session: { key: keys }, broker: { audience: AUDIENCE } })),
      provider
    )
  const next = randomBytes(32).toString('base64')
  const first = await (await start(SESSION_KEY)).byDevice()
  const both = await start(next, SESSION_KEY)
  t.equal((await both.api(first.access_token)).statusCode, 200)
  const second = (
    await both.token({ grant_type: 'refresh_token', refresh_token: first.refresh_token })
  ).json() as Tokens
  const after = await start(next)
  t.equal((await after.api(first.access_token)).statusCode, 200)
  t.equal((await after.token({ grant_type: 'refresh_token', refresh_token: second.refresh_token })).statusCode, 200)
})

t.test('S58 refresh tokens rotate; one that was used again ends the grant', async (t) => {
  const clock = stopClock(t)
  const { app, provider, token, api, byDevice } = await start(t)
  const first = await byDevice()
  provider.clearRequests()
  const refresh = async (refreshToken: string, more: Record<string, string> = {}): Promise<LightMyRequestResponse> =>
    await token({ grant_type: 'refresh_token', refresh_token: refreshToken, ...more })
  const answers = await Promise.all(
    Array.from({ length: 20 }, async () => (await refresh(first.refresh_token)).json() as Tokens)
  )
  t.equal(new Set(answers.map(({ refresh_token: next }) => next)).size, 1, 'twenty at once get the same one')
  t.equal(provider.count('token'), 1, 'and the provider is asked once')
  const [second] = answers as [Tokens]
  t.not(second.refresh_token, first.refresh_token)
  t.equal(
    (await refresh(first.refresh_token)).json().refresh_token,
    second.refresh_token,
    'whoever did not get the answer gets it again'
  )
  t.match(
    (await refresh(second.refresh_token, { scope: 'openid email' })).json(),
    { scope: 'openid email' },
    'a part of the scope'
  )
  t.match(
    (await refresh((await refresh(second.refresh_token)).json().refresh_token, { scope: 'openid admin' })).json(),
    { error: 'invalid_scope' }
  )
  t.match(
    (await refresh(second.refresh_token, { client_id: 'cli' })).json(),
    { error: 'invalid_grant' },
    'of another client'
  )
  t.equal((await api(second.access_token)).statusCode, 200)
  clock.advance(31)
  t.match(
    [(await refresh(second.refresh_token)).json()],
    [{ error: 'invalid_grant', error_description: 'The refresh token was used before.', detail: String }]
  )
  t.equal((await api(second.access_token)).statusCode, 401, 'RFC 9700: the whole family ends')
  t.match((await refresh(second.refresh_token)).json(), { error: 'invalid_grant', error_description: /not known/ })

  provider.clearRequests()
  for (const forged of [
    'x',
    `${first.refresh_token.slice(0, -5)}AAAAA`,
    first.access_token,
    (await logIn({ app, provider }, 'alice')).cookies.header(BASE_URL).slice(0, 400)
  ]) {
    t.match((await refresh(forged)).json(), { error: 'invalid_grant' })
  }
  t.equal(provider.requests.filter(({ body }) => body['grant_type'] === 'refresh_token').length, 0)
})

t.test('S58 the provider has the last word on a refresh', async (t) => {
  const { app, provider, token, byDevice, api } = await start(t, { roleClaims: ['roles'] })
  const first = await byDevice()
  t.equal((await api(first.access_token, '/admin')).statusCode, 403)
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, roles: ['admin'] }) })
  const second = (await token({ grant_type: 'refresh_token', refresh_token: first.refresh_token })).json() as Tokens
  t.equal((await api(second.access_token, '/admin')).statusCode, 200, 'claims follow the provider')
  provider.clearFaults()

  const clearHang = provider.fault({ on: 'token', status: 503, body: '' })
  const away = await token({ grant_type: 'refresh_token', refresh_token: second.refresh_token })
  t.match(
    [away.statusCode, away.headers['retry-after'], away.json().error],
    [503, /\d/, 'temporarily_unavailable'],
    'R18 that it is away ends nothing'
  )
  t.equal((await api(second.access_token)).statusCode, 200)
  clearHang()
  await new Promise((resolve) => setTimeout(resolve, 5100))
  const third = (await token({ grant_type: 'refresh_token', refresh_token: second.refresh_token })).json() as Tokens
  t.ok(third.access_token)
  provider.fault(refusal('invalid_grant'))
  t.match((await token({ grant_type: 'refresh_token', refresh_token: third.refresh_token })).json(), {
    error: 'invalid_grant'
  })
  t.equal((await api(third.access_token)).statusCode, 401, 'it ended the login')
  provider.clearFaults()

  const sparse = await byDevice()
  provider.fault({ on: 'token', tokenResponse: (answer) => ({ ...answer, id_token: undefined, scope: undefined }) })
  t.equal(
    decodeJwt((await token({ grant_type: 'refresh_token', refresh_token: sparse.refresh_token })).json().access_token)
      .sub,
    'alice',
    'a refresh need not bring an ID token'
  )
  provider.clearFaults()

  const other = await byDevice('bob')
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, sub: 'mallory' }) })
  t.match(
    (await token({ grant_type: 'refresh_token', refresh_token: other.refresh_token })).json(),
    { error: 'invalid_grant' },
    'S59 another person'
  )
  t.equal((await api(other.access_token)).statusCode, 401)
  t.ok(app)
})

t.test('without a refresh token of the provider a grant lasts as long as a session', async (t) => {
  const { byDevice, token, provider } = await start(
    t,
    { session: { key: SESSION_KEY, maxAge: 1000 } },
    { refreshTokens: 'never' }
  )
  const answer = await byDevice()
  t.ok(Math.abs(answer['refresh_expires'] as number - Date.now() / 1000 - 1000) < 5)
  provider.clearRequests()
  t.equal((await token({ grant_type: 'refresh_token', refresh_token: answer.refresh_token })).statusCode, 200)
  t.equal(provider.count('token'), 0)
})

t.test('S79 the device flow: what the provider says is passed on', async (t) => {
  const { provider, post, token, app } = await start(t, {
    telemetry: false,
    onClaims: (claims) => {
      if (claims.sub === 'mallory') throw new Error('not here')
    }
  })
  const device = await post('device', {})
  t.match(device.json(), {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: String,
    expires_in: 600,
    interval: 1
  })
  t.equal(device.headers['cache-control'], 'no-store')
  const { device_code: deviceCode } = device.json()
  t.notMatch(
    provider.requests.map(({ body }) => body),
    [{ device_code: deviceCode }]
  )
  const poll = async (form: Record<string, string> = {}): Promise<LightMyRequestResponse> =>
    await token({ grant_type: DEVICE, device_code: deviceCode, ...form })
  const pending = await poll()
  t.match([pending.statusCode, pending.json()], [400, { error: 'authorization_pending' }])
  for (const error of ['slow_down', 'expired_token', 'access_denied', 'invalid_grant']) {
    const off = provider.fault(refusal(error))
    t.match([(await poll()).statusCode, (await poll()).json().error], [400, error])
    off()
  }
  const off = provider.fault(refusal('invalid_client', 401))
  t.match(
    [(await poll()).statusCode, (await poll()).json().error],
    [502, 'server_error'],
    'what is the matter of this application'
  )
  off()
  provider.denyDevice()
  t.match((await poll()).json(), { error: 'access_denied' })

  const count = provider.count('token')
  for (const forged of ['x', deviceCode.slice(0, -3), `${deviceCode}a`]) {
    t.match((await token({ grant_type: DEVICE, device_code: forged })).json(), { error: 'invalid_grant' })
  }
  t.match((await poll({ client_id: 'cli' })).json(), { error: 'invalid_grant' }, 'of another client')
  t.equal(provider.count('token'), count, 'nobody was asked')

  const second = (await post('device', { client_id: 'cli' })).json()
  provider.approveDevice(undefined, 'mallory')
  t.match(
    (await token({ grant_type: DEVICE, device_code: second.device_code, client_id: 'cli' })).json(),
    { error: 'access_denied' },
    'onClaims is asked as well'
  )
  const third = (await post('device', { client_id: 'cli' })).json()
  provider.approveDevice(undefined, 'bob')
  t.equal(
    decodeJwt(
      (await token({ grant_type: DEVICE, device_code: third.device_code, client_id: 'cli' })).json().access_token
    )['client_id'],
    'cli'
  )

  const fourth = (await post('device', {})).json()
  provider.approveDevice(undefined, 'bob')
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, aud: 'other' }) })
  t.match(
    (await token({ grant_type: DEVICE, device_code: fourth.device_code })).json(),
    { error: 'invalid_request' },
    'S21 the ID token is verified'
  )
  t.equal((await app.inject({ method: 'GET', url: '/auth/device' })).statusCode, 405)

  provider.clearFaults()
  const fifth = (await post('device', {})).json()
  provider.approveDevice(undefined, 'bob')
  provider.fault({ on: 'token', tokenResponse: (answer) => ({ ...answer, scope: undefined }) })
  t.equal(
    (await token({ grant_type: DEVICE, device_code: fifth.device_code })).json().scope,
    'openid profile email',
    'a scope that is not told is the one that was asked for'
  )
})

t.test('S79 devices: a provider without, and one that sends people elsewhere', async (t) => {
  const { post } = await start(t, {}, { metadata: { device_authorization_endpoint: undefined } })
  const none = await post('device', {})
  t.match([none.statusCode, none.json()], [503, { error: 'temporarily_unavailable', detail: /no device flow/ }])
  const other = await start(t)
  other.provider.fault({
    on: 'device',
    answer: (given) => {
      given.body = JSON.stringify({ ...JSON.parse(String(given.body)), verification_uri: 'javascript:alert(1)' })
    }
  })
  t.equal((await other.post('device', {})).statusCode, 502)
  const { provider, post: postTo, token } = await start(t)
  const { device_code: deviceCode } = (await postTo('device', {})).json()
  provider.approveDevice()
  provider.fault({
    on: 'token',
    answer: (given) => {
      given.body = JSON.stringify({ ...JSON.parse(String(given.body)), id_token: undefined })
    }
  })
  t.match(
    (await token({ grant_type: DEVICE, device_code: deviceCode })).json(),
    { error: 'invalid_grant' },
    'without an ID token it is nobody'
  )
})

t.test('S79 a device_code expires', async (t) => {
  const clock = stopClock(t)
  const { post, token } = await start(t)
  const { device_code: deviceCode } = (await post('device', {})).json()
  clock.advance(601)
  t.match((await token({ grant_type: DEVICE, device_code: deviceCode })).json(), { error: 'expired_token' })
})

t.test('S4 a native application logs in: the code is ours, and PKCE is checked end to end', async (t) => {
  const { app, provider, browser, token, api } = await start(t)
  const { verifier, challenge } = pkce()
  const query = {
    response_type: 'code',
    client_id: 'cli',
    redirect_uri: REDIRECT_URI,
    code_challenge: challenge,
    code_challenge_method: 'S256',
    state: 'its state',
    scope: 'openid email offline_access'
  }
  const back = await untilNative(browser, query)
  t.equal(back.origin + back.pathname, REDIRECT_URI)
  t.match(Object.fromEntries(back.searchParams), { code: String, state: 'its state', iss: BASE_URL })
  const asked = provider.requests.find(({ endpoint }) => endpoint === 'authorize')
  t.match(asked, { query: { redirect_uri: `${BASE_URL}/auth/callback`, scope: 'openid profile email offline_access' } })
  t.not(asked?.query['code_challenge'], challenge, "the verifier towards the provider is the server's")
  t.notOk(
    browser.cookies.list(BASE_URL).some(({ name }) => /^(?:__Host-)?oidc(?:-tokens.*)?$/.test(name)),
    'there is no session'
  )

  const code = back.searchParams.get('code') as string
  const redeem = async (more: Record<string, string> = {}): Promise<LightMyRequestResponse> =>
    await token({
      grant_type: 'authorization_code',
      code,
      redirect_uri: REDIRECT_URI,
      code_verifier: verifier,
      client_id: 'cli',
      ...more
    })
  const tokens = (await redeem()).json() as Tokens
  t.match(decodeJwt(tokens.access_token), { sub: 'alice', client_id: 'cli', scope: 'openid email offline_access' })
  t.equal((await api(tokens.access_token)).statusCode, 200)
  t.match((await redeem()).json(), { error: 'invalid_grant' }, 'S4 once')
  t.equal(
    (await api(tokens.access_token)).statusCode,
    401,
    'RFC 6749, section 4.1.2: used again, it ends what it led to'
  )

  const wrong: Array<Record<string, string>> = [
    { code_verifier: pkce().verifier },
    { code_verifier: '' },
    { redirect_uri: 'http://127.0.0.1:53101/callback' },
    { client_id: 'web' },
    { code: 'x' }
  ]
  for (const more of wrong) {
    const other = await untilNative(client({ app, baseUrl: BASE_URL }), query)
    t.match(
      (await redeem({ code: other.searchParams.get('code') as string, ...more })).json(),
      { error: 'invalid_grant' },
      JSON.stringify(more)
    )
  }
  const parallel = await untilNative(client({ app, baseUrl: BASE_URL }), query)
  const answers = await Promise.all(
    Array.from({ length: 10 }, async () => await redeem({ code: parallel.searchParams.get('code') as string }))
  )
  const redeemed = answers.filter(({ statusCode }) => statusCode === 200)
  t.ok(redeemed.length <= 1, 'one of ten at once')
  for (const response of redeemed) {
    t.equal((await api(response.json().access_token)).statusCode, 401, 'which the others end')
  }
})

t.test('S4 a code that is used again before its first use is done', async (t) => {
  let hold = async (): Promise<void> => {}
  const { browser, token, api } = await start(t, { broker: { onIssue: async () => await hold() } })
  const { verifier, challenge } = pkce()
  const back = await untilNative(browser, {
    redirect_uri: REDIRECT_URI,
    code_challenge: challenge,
    code_challenge_method: 'S256',
    scope: 'openid'
  })
  const redeem = async (): Promise<LightMyRequestResponse> =>
    await token({
      grant_type: 'authorization_code',
      code: back.searchParams.get('code') as string,
      redirect_uri: REDIRECT_URI,
      code_verifier: verifier
    })
  const again: LightMyRequestResponse[] = []
  hold = async () => { again.push(await redeem()) }
  const first = await redeem()
  t.match(
    [first.json(), again[0]?.json()],
    [{ error: 'invalid_grant', access_token: undefined }, { error: 'invalid_grant' }],
    'neither of the two has tokens'
  )
  t.match((await redeem()).json(), { error: 'invalid_grant' })
  t.equal((await api(String(first.json().access_token))).statusCode, 401)
})

t.test('a native login that is under way when the application starts with other options', async (t) => {
  const { provider, browser } = await start(t)
  const store = createMemoryStore()
  const { challenge } = pkce()
  const begun = await browser.step(
    `/auth/login?${new URLSearchParams({ redirect_uri: REDIRECT_URI, code_challenge: challenge, code_challenge_method: 'S256' }).toString()}`
  )
  const { location } = await browser.step(begun.location as string)
  const callback = new URL(location as string)
  const cookie = browser.cookies.list(BASE_URL).map(({ name, value }) => `${name}=${value}`).join('; ')
  for (const options of [{}, { store }, { store, broker: { audience: AUDIENCE } }]) {
    const app = await buildApp(t, optionsFor(provider, options))
    for (const query of [
      callback.search,
      `?error=access_denied&state=${callback.searchParams.get('state') as string}`
    ]) {
      const response = await app.inject({
        url: `/auth/callback${query}`,
        headers: { cookie, accept: 'application/json' }
      })
      t.match(
        [response.statusCode, response.json()],
        [400, { code: 'FST_OIDC_STATE' }],
        JSON.stringify(Object.keys(options))
      )
    }
  }
  t.equal(provider.count('token'), 0)
})

t.test('S59 a refreshed ID token of another login ends the grant', async (t) => {
  const { app, provider, token, api } = await start(t)
  const { verifier, challenge } = pkce()
  for (const fault of ['refresh-token-invalid-nonce', 'refresh-token-invalid-auth-time'] as const) {
    const back = await untilNative(client({ app, baseUrl: BASE_URL }), {
      redirect_uri: REDIRECT_URI,
      code_challenge: challenge,
      code_challenge_method: 'S256',
      scope: 'openid offline_access'
    })
    const tokens: Tokens = (
      await token({
        grant_type: 'authorization_code',
        code: back.searchParams.get('code') as string,
        redirect_uri: REDIRECT_URI,
        code_verifier: verifier
      })
    ).json()
    const refreshed: Tokens = (await token({ grant_type: 'refresh_token', refresh_token: tokens.refresh_token })).json()
    t.equal((await api(refreshed.access_token)).statusCode, 200)
    const clear = provider.fault(faults[fault])
    t.match(
      (await token({ grant_type: 'refresh_token', refresh_token: refreshed.refresh_token })).json(),
      { error: 'invalid_grant' },
      fault
    )
    clear()
    t.equal((await api(refreshed.access_token)).statusCode, 401, fault)
  }
})

t.test('S48 a native login goes nowhere else', async (t) => {
  const { app, provider } = await start(t, {
    broker: {
      nativeClients: { clientIds: ['cli'], redirectUris: ['https://tool.example.com/done', 'com.example.tool:/done'] }
    }
  })
  const { challenge } = pkce()
  const query = (more: Record<string, string>): string =>
    `/auth/login?${new URLSearchParams({ redirect_uri: REDIRECT_URI, code_challenge: challenge, code_challenge_method: 'S256', ...more }).toString()}`
  const status = async (more: Record<string, string>): Promise<number> => (await app.inject(query(more))).statusCode
  const bad = [
    'https://evil.test/',
    'http://evil.test/',
    'http://127.0.0.1.evil.test/',
    'http://localhost.evil.test/',
    'http://user@localhost:1/',
    'http://localhost:1/#x',
    'http://localhost\\@evil.test/',
    'https://tool.example.com/done/more',
    'https://localhost/',
    'javascript:alert(1)',
    'com.example.tool:/other',
    '//localhost/',
    'x',
    `http://localhost/${'a'.repeat(500)}`
  ]
  for (const uri of bad) t.equal(await status({ redirect_uri: uri }), 400, uri.slice(0, 60))
  const wrong: Array<Record<string, string>> = [
    { response_type: 'token' },
    { client_id: 'other' },
    { code_challenge: 'short' },
    { code_challenge_method: 'plain' },
    { state: 'x'.repeat(501) }
  ]
  for (const more of wrong) t.equal(await status(more), 400, JSON.stringify(more).slice(0, 60))
  t.equal(
    (await app.inject(`/auth/login?redirect_uri=${encodeURIComponent(REDIRECT_URI)}`)).statusCode,
    400,
    'PKCE is a must'
  )
  t.equal(provider.count('authorize'), 0)
  for (const uri of [
    'http://localhost:1/x', 'http://[::1]:9/', 'http://127.0.0.1/', 'https://tool.example.com/done',
    'com.example.tool:/done'
  ]) { t.equal(await status({ redirect_uri: uri }), 302, uri) }
  const without = await start(t, { broker: { nativeClients: undefined as never } })
  const ordinary = await without.app.inject(query({}))
  t.match(
    [ordinary.statusCode, ordinary.headers.location?.startsWith(without.provider.issuer)],
    [302, true],
    'where there are none it is a login like any other'
  )
})

t.test('S48 where a code may go: property', async (t) => {
  const listed = ['https://tool.example.com/done']
  const parts = fc.constantFrom(
    'http://', 'https://', '//', 'localhost', '127.0.0.1', '[::1]', 'evil.test', '@', ':80', '/', '\\', '#',
    '?', '%2f', '.', 'tool.example.com/done', '\t', ' ', 'javascript:'
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.array(parts, { maxLength: 8 }).map((all) => all.join('')),
        fc.webUrl(),
        fc.string()
      ),
      (value) => {
        if (!isAllowedRedirect(value, listed) || listed.includes(value)) return true
        const { protocol, hostname, username, hash } = new URL(value)
        return (
          protocol === 'http:' &&
          ['localhost', '127.0.0.1', '[::1]'].includes(hostname) &&
          username === '' &&
          hash === ''
        )
      }
    ),
    { numRuns: 5000 }
  )
  t.equal(isAllowedRedirect('http://localhost:1/', listed), true)
})

t.test('a native login that fails is told to the application that asked', async (t) => {
  const { app, provider } = await start(t, {
    onClaims: (claims) => {
      if (claims.sub === 'mallory') throw new Error('no')
    }
  })
  const { challenge } = pkce()
  const query = {
    redirect_uri: REDIRECT_URI,
    code_challenge: challenge,
    code_challenge_method: 'S256',
    prompt: 'consent',
    offline_access: 'true'
  }
  const errorOf = async (): Promise<string | null> =>
    (await untilNative(client({ app, baseUrl: BASE_URL }), query)).searchParams.get('error')
  provider.options.approve = () => 'mallory'
  t.equal(await errorOf(), 'access_denied')
  t.equal(provider.requests.find(({ endpoint }) => endpoint === 'authorize')?.query['prompt'], 'consent')
  provider.options.approve = () => 'alice'
  const off = provider.fault({ on: 'token', status: 503, body: '' })
  t.equal(await errorOf(), 'temporarily_unavailable')
  off()
  provider.fault({ on: 'token', garbage: 'html' })
  t.equal(await errorOf(), 'server_error')
  const down = await start(t, { timeout: 0.2 })
  down.provider.fault({ on: 'metadata', hang: true })
  t.equal(
    (await untilNative(down.browser, query)).searchParams.get('error'),
    'temporarily_unavailable',
    'also when it cannot begin'
  )
})

t.test('a native login whose callback comes again begins anew, for the application', async (t) => {
  const { browser } = await start(t)
  const { challenge } = pkce()
  const query = new URLSearchParams({
    redirect_uri: REDIRECT_URI,
    code_challenge: challenge,
    code_challenge_method: 'S256'
  })
  const { location: toProvider } = await browser.step(`/auth/login?${query.toString()}`)
  const { location: callback } = await browser.step(toProvider as string)
  t.match((await browser.step(callback as string)).location, /^http:\/\/127\.0\.0\.1:53100/)
  const again = await browser.step(callback as string)
  t.match(again.location, /\/authorize\?/)
  const { location: second } = await browser.step(again.location as string)
  t.match((await browser.step(second as string)).location, /^http:\/\/127\.0\.0\.1:53100\/callback\?code=/)
})

t.test('py-oidc-auth-client works unchanged', async (t) => {
  const { browser, provider, post, token, api } = await start(t, { broker: { nativeClients: { pkceRequired: false } } })
  const device = await post('device', {}, { 'content-length': '0' })
  t.match(device.json(), { device_code: String })
  const pending = await token({ 'device-code': device.json().device_code })
  t.match(
    [pending.statusCode, pending.json()],
    [400, { error: 'authorization_pending', error_description: String, detail: String }]
  )
  provider.approveDevice()
  const tokens = (await token({ 'device-code': device.json().device_code })).json()
  t.match(tokens, {
    access_token: String,
    token_type: 'Bearer',
    expires: Number,
    refresh_token: String,
    refresh_expires: Number,
    scope: String
  })
  t.match((await token({ 'refresh-token': tokens.refresh_token })).json(), { access_token: String })

  for (const state of [undefined, 'its own']) {
    const back = await untilNative(browser, {
      redirect_uri: REDIRECT_URI,
      offline_access: 'true',
      prompt: 'consent',
      ...(state !== undefined && { state })
    })
    const verifier = back.searchParams.get('state')?.split('|').at(-1) as string
    t.notOk(
      provider.requests.some(({ query }) => query['state'] === verifier),
      'it is not the state of the provider'
    )
    const answer = await token({
      code: back.searchParams.get('code') as string,
      redirect_uri: REDIRECT_URI,
      grant_type: 'authorization_code',
      code_verifier: verifier
    })
    t.equal((await api(answer.json().access_token)).statusCode, 200)
  }
  const { verifier, challenge } = pkce()
  const back = await untilNative(browser, {
    redirect_uri: REDIRECT_URI,
    code_challenge: challenge,
    code_challenge_method: 'S256',
    state: 's'
  })
  t.match(
    (
      await token({ code: back.searchParams.get('code') as string, redirect_uri: REDIRECT_URI, code_verifier: 's' })
    ).json(),
    { error: 'invalid_grant' },
    'who brings a challenge gets real PKCE'
  )
  t.ok(verifier)
  const me = await api(tokens.access_token, '/auth/userinfo')
  t.same(me.json(), {
    sub: 'alice',
    username: 'alice',
    last_name: me.json().last_name,
    first_name: me.json().first_name,
    pw_name: null,
    email: 'alice@example.com'
  })
})

t.test('S78 token exchange', async (t) => {
  const { app, provider, token, api } = await start(t, { bearer: { audience: 'https://web.example.com' } })
  const subject = (more: Record<string, unknown> = {}, options = {}): string =>
    provider.accessToken({ sub: 'alice', overrides: { aud: 'https://web.example.com', ...more }, ...options })
  const exchange = async (more: Record<string, string> = {}): Promise<LightMyRequestResponse> =>
    await token({
      grant_type: EXCHANGE,
      subject_token: subject(),
      subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      ...more
    })
  const good = await exchange()
  t.match(good.json(), {
    issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    token_type: 'Bearer',
    scope: 'openid profile email'
  })
  t.notOk('refresh_token' in good.json())
  t.match((await api(good.json().access_token)).json(), { claims: { sub: 'alice', iss: BASE_URL, aud: AUDIENCE } })
  t.match((await exchange({ scope: 'email' })).json(), { scope: 'email' })
  t.match((await exchange({ audience: AUDIENCE })).json(), { access_token: String })
  t.match(
    (await token({ grant_type: EXCHANGE, subject_token: subject() })).json(),
    { access_token: String },
    'the type need not be said (py-oidc-auth)'
  )
  const soon = Math.floor(Date.now() / 1000) + 60
  t.equal(
    decodeJwt((await exchange({ subject_token: subject({ exp: soon }) })).json().access_token).exp,
    soon,
    'no longer than the other one'
  )
  const refused: Array<[Record<string, string>, string]> = [
    [{ scope: 'admin' }, 'invalid_scope'],
    [{ audience: 'other' }, 'invalid_target'],
    [{ resource: 'https://other.test' }, 'invalid_target'],
    [{ actor_token: 'x' }, 'invalid_request'],
    [{ subject_token_type: 'urn:ietf:params:oauth:token-type:id_token' }, 'invalid_request'],
    [{ requested_token_type: 'urn:ietf:params:oauth:token-type:refresh_token' }, 'invalid_request'],
    [{ subject_token: 'x' }, 'invalid_grant'],
    [{ subject_token: subject({ aud: 'other' }) }, 'invalid_grant'],
    [{ subject_token: subject({ iss: 'https://evil.test' }) }, 'invalid_grant'],
    [{ subject_token: subject({ exp: 1 }) }, 'invalid_grant'],
    [{ subject_token: subject({ sub: 'web' }) }, 'invalid_grant'],
    [{ subject_token: subject({ cnf: { jkt: 'x' } }) }, 'invalid_grant'],
    [{ subject_token: provider.idToken({ sub: 'alice' }) }, 'invalid_grant'],
    [{ subject_token: good.json().access_token }, 'invalid_grant'],
    [{ client_id: 'unknown' }, 'invalid_client']
  ]
  for (const [more, error] of refused) {
    t.match((await exchange(more)).json(), { error }, JSON.stringify(more).slice(0, 80))
  }
  t.equal((await api(subject())).statusCode, 200, "the provider's own are taken as well, as bearer says")

  await app.oidc.sessions.revoke({ sub: 'alice' })
  t.equal((await api(good.json().access_token)).statusCode, 401, 'who is logged out everywhere is so here')
  t.match(
    (await exchange({ subject_token: subject({ iat: Math.floor(Date.now() / 1000) - 5 }) })).json(),
    { error: 'invalid_grant' },
    'and gets none for a token of before'
  )
  const lax = await start(t, { bearer: { audience: 'https://web.example.com', strictType: false } })
  t.match(
    (
      await lax.token({
        grant_type: EXCHANGE,
        subject_token: lax.provider.accessToken({
          sub: 'alice',
          overrides: { aud: 'https://web.example.com', iat: undefined }
        })
      })
    ).json(),
    { error: 'invalid_grant' }
  )
  const away = provider.fault({ on: 'jwks', status: 503, body: '' })
  provider.rotateKeys()
  t.match((await exchange({ subject_token: subject() })).json(), { error: 'temporarily_unavailable' })
  away()

  const without = await start(t)
  t.match((await without.token({ grant_type: EXCHANGE, subject_token: 'x' })).json(), {
    error: 'unsupported_grant_type'
  })
  t.equal(
    (await without.api(without.provider.accessToken({ sub: 'alice', overrides: { aud: AUDIENCE } }))).statusCode,
    401,
    'V17 without bearer, tokens of the provider do not count'
  )
})

t.test('S69 the token endpoint refuses what is wrong', async (t) => {
  const { app, post, token } = await start(t)
  const refused: Array<[Record<string, string>, number, string]> = [
    [{}, 400, 'invalid_request'],
    [{ grant_type: 'password', username: 'a', password: 'b' }, 400, 'unsupported_grant_type'],
    [{ grant_type: '__proto__' }, 400, 'unsupported_grant_type'],
    [{ grant_type: 'refresh_token' }, 400, 'invalid_request'],
    [{ grant_type: 'authorization_code', code: 'x', client_id: 'nobody' }, 401, 'invalid_client']
  ]
  for (const [form, status, error] of refused) {
    const answer = await token(form)
    t.match(
      [answer.statusCode, answer.json().error, answer.headers['cache-control']],
      [status, error, 'no-store'],
      JSON.stringify(form)
    )
  }
  const twice = await app.inject({
    method: 'POST',
    url: '/auth/token',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    payload: 'grant_type=refresh_token&refresh_token=a&refresh_token=b'
  })
  t.match([twice.statusCode, twice.json().error], [400, 'invalid_request'])
  t.equal(
    (await app.inject({ method: 'POST', url: '/auth/token', payload: { grant_type: 'refresh_token' } })).statusCode,
    415
  )
  t.match((await post('token', { grant_type: 'refresh_token', refresh_token: 'x'.repeat(20_000) })).json(), {
    error: 'invalid_request'
  })
})

t.test('RFC 7009, RFC 7662: tokens are revoked and asked about', async (t) => {
  const secret = 'a secret of a resource server: +%é'
  const { post, byDevice, api, token } = await start(t, { broker: { resourceServers: { reports: secret } } })
  const basic = { authorization: `Basic ${Buffer.from(`reports:${encodeURIComponent(secret)}`).toString('base64')}` }
  const one = await byDevice()
  const introspect = async (
    value: string,
    headers: Record<string, string> = basic,
    more: Record<string, string> = {}
  ): Promise<LightMyRequestResponse> => await post('introspect', { token: value, ...more }, headers)
  t.match((await introspect(one.access_token)).json(), {
    active: true,
    token_type: 'Bearer',
    sub: 'alice',
    iss: BASE_URL
  })
  t.match((await introspect(one.access_token, {}, { client_id: 'reports', client_secret: secret })).json(), {
    active: true
  })
  for (const other of [one.refresh_token, 'x', '']) t.same((await introspect(other)).json(), { active: false })
  const strangers: Array<Record<string, string>> = [
    {},
    { authorization: 'Basic x' },
    { authorization: 'Basic !' },
    { authorization: `Basic ${Buffer.from('reports:wrong').toString('base64')}` },
    { authorization: `Basic ${Buffer.from('reports:%').toString('base64')}` },
    { authorization: `Basic ${Buffer.from('constructor:x').toString('base64')}` }
  ]
  for (const headers of strangers) {
    t.match(
      [
        (await introspect(one.access_token, headers)).statusCode,
        (await introspect(one.access_token, headers)).json().error
      ],
      [401, 'invalid_client'],
      JSON.stringify(headers)
    )
  }
  t.match((await post('introspect', {}, basic)).json(), { error: 'invalid_request' })

  for (const kind of ['access_token', 'refresh_token'] as const) {
    const tokens = await byDevice()
    const revoked = await post('revoke', { token: tokens[kind] })
    t.same([revoked.statusCode, revoked.json()], [200, {}])
    t.equal((await api(tokens.access_token)).statusCode, 401)
    t.same((await introspect(tokens.access_token)).json(), { active: false })
    t.match((await token({ grant_type: 'refresh_token', refresh_token: tokens.refresh_token })).json(), {
      error: 'invalid_grant'
    })
    t.equal((await post('revoke', { token: tokens[kind] })).statusCode, 200, 'again')
  }
  t.equal((await post('revoke', { token: 'nonsense' })).statusCode, 200)
  const used = await byDevice()
  const next = (await token({ grant_type: 'refresh_token', refresh_token: used.refresh_token })).json() as Tokens
  await token({ grant_type: 'refresh_token', refresh_token: next.refresh_token })
  t.equal((await post('revoke', { token: used.refresh_token })).statusCode, 200)
  t.equal((await api(next.access_token)).statusCode, 401, 'also by a token that was used up')
  t.match((await post('revoke', {})).json(), { error: 'invalid_request' })
  t.equal((await api(one.access_token)).statusCode, 200, 'the others stay')
  t.equal((await (await start(t)).post('introspect', {})).statusCode, 404, 'without resource servers nobody may ask')
})

t.test('app.oidc.broker.revoke, and logouts of the provider', async (t) => {
  const sids: unknown[] = []
  const { app, provider, byDevice, api, token } = await start(t, { onClaims: (claims) => { sids.push(claims['sid']) } })
  const { sid } = decodeJwt((await byDevice()).access_token)
  t.equal(await app.oidc.broker.revoke({ sid: sid as string }), 1)
  t.equal(await app.oidc.broker.revoke({ sid: sid as string }), 0)
  const one = await byDevice()
  t.equal(await app.oidc.broker.revoke({ jti: decodeJwt(one.access_token).jti as string }), 1)
  const [two, three, bob] = [await byDevice(), await byDevice(), await byDevice('bob')]
  t.equal(await app.oidc.broker.revoke({ sub: 'alice' }), 2)
  t.same(
    await Promise.all([one, two, three, bob].map(async ({ access_token: value }) => (await api(value)).statusCode)),
    [401, 401, 401, 200]
  )
  t.equal((await api((await byDevice()).access_token)).statusCode, 200, 'later ones are not concerned')
  for (const filter of [{}, { sub: undefined }, { sub: '' }, { sub: 'a', sid: 'b' }, { name: 'x' }]) {
    await t.rejects(app.oidc.broker.revoke(filter as never), { code: 'FST_OIDC_OPTION' })
  }

  t.equal((await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, { app, sub: 'bob' })).status, 200)
  t.equal((await api(bob.access_token)).statusCode, 401, 'a logout token ends what was given as well')
  t.match((await token({ grant_type: 'refresh_token', refresh_token: bob.refresh_token })).json(), {
    error: 'invalid_grant'
  })
  const [early, late] = [await byDevice(), await byDevice()]
  t.equal(
    (
      await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, {
        app,
        sub: 'alice',
        overrides: { iat: Math.floor(Date.now() / 1000) - 60 }
      })
    ).status,
    200
  )
  t.equal((await api(early.access_token)).statusCode, 200, 'one that comes late is not about who logged in meanwhile')
  t.equal(
    (
      await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, {
        app,
        sid: sids.at(-1) as string,
        overrides: { sub: undefined }
      })
    ).status,
    200
  )
  t.same(
    [(await api(early.access_token)).statusCode, (await api(late.access_token)).statusCode],
    [200, 401],
    'a sid is one login'
  )
  const alice = await byDevice()
  await app.oidc.sessions.revoke({ provider: 'default' })
  t.equal((await api(alice.access_token)).statusCode, 401)

  const { app: plain } = await startApp(t)
  await t.rejects(plain.oidc.broker.revoke({ sub: 'x' }), { code: 'FST_OIDC_OPTION' })
  await t.rejects(plain.oidc.broker.rotateKeys(), { code: 'FST_OIDC_OPTION' })
})

t.test('R28 who is logged out while a token is being issued has none', async (t) => {
  const { app, post, token, provider } = await start(t, {
    broker: {
      onIssue: async (_payload, { request }) => {
        if (request.headers['x-test'] === undefined) await ending()
      }
    }
  })
  let ending = async (): Promise<unknown> => undefined
  for (const end of [
    async () => await app.oidc.sessions.revoke({ sub: 'alice' }),
    async () => await app.oidc.broker.revoke({ sub: 'alice' })
  ]) {
    ending = end
    const { device_code: deviceCode } = (await post('device', {})).json()
    provider.approveDevice()
    t.match((await token({ grant_type: DEVICE, device_code: deviceCode })).json(), {
      error: 'invalid_grant',
      error_description: 'The person was logged out.'
    })
  }
})

t.test('broker.claims and onIssue', async (t) => {
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
        if (payload['sub'] === 'bob') throw new Error('not him')
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
  t.same(seen, [['blue', payload.jti]], 'what it sees is what is signed')
  const { device_code: deviceCode } = (await post('device', {})).json()
  provider.approveDevice(undefined, 'bob')
  t.match((await token({ grant_type: DEVICE, device_code: deviceCode })).json(), { error: 'access_denied' })
})

t.test('who is refused for the moment loses nothing', async (t) => {
  let isAway = false
  const { byDevice, token, provider } = await start(t, {
    broker: {
      onIssue: () => {
        if (isAway) throw new Error('the database is away')
      }
    }
  })
  const clock = stopClock(t)
  const { refresh_token: refreshToken } = await byDevice()
  const refresh = async (): Promise<LightMyRequestResponse> =>
    await token({ grant_type: 'refresh_token', refresh_token: refreshToken })
  isAway = true
  t.match((await refresh()).json(), { error: 'access_denied' })
  clock.advance(120)
  isAway = false
  t.equal((await refresh()).statusCode, 200)
  t.equal(
    provider.requests.filter(({ body }) => body['grant_type'] === 'refresh_token').length,
    2,
    'each with the refresh token that was good then'
  )
})

t.test('the application may answer a login by device itself', async (t) => {
  const { post, token, provider } = await start(t, {
    onClaims: (_claims, { reply }) => {
      reply.code(403).send({ error: 'access_denied', why: 'suspended' })
    }
  })
  const { device_code: deviceCode } = (await post('device', {})).json()
  provider.approveDevice()
  t.match((await token({ grant_type: DEVICE, device_code: deviceCode })).json(), { why: 'suspended' })
})

t.test('V19 several providers: each has its own people', async (t) => {
  const [one, two] = [await startProvider({ deviceInterval: 1 }), await startProvider({ deviceInterval: 1 })]
  t.teardown(async () => {
    await one.close()
    await two.close()
  })
  const optionsOf = ({ issuer, clients: [web] }: Provider) => ({
    issuer,
    clientId: 'web',
    clientSecret: web?.client_secret as string
  })
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    store: 'memory:',
    session: { key: SESSION_KEY },
    broker: { audience: AUDIENCE, nativeClients: {} },
    providers: { one: optionsOf(one), two: optionsOf(two) }
  })
  const { post, token, api } = programs(app, one)
  app.get('/two', { preHandler: app.oidc.required({ provider: 'two' }) }, async ({ oidcToken }) => oidcToken?.provider)
  t.match((await post('device', {})).json(), { error: 'invalid_request' }, 'which one must be said')
  t.match([(await post('device', { provider: 'three' })).statusCode], [400])
  const tokenFor = async (name: string, provider: Provider): Promise<string> => {
    const { device_code: deviceCode } = (await post('device', { provider: name })).json()
    provider.approveDevice(undefined, 'alice')
    return (await token({ grant_type: DEVICE, device_code: deviceCode })).json().access_token
  }
  const tokens = [await tokenFor('one', one), await tokenFor('two', two)]
  t.same(tokens.map((value) => decodeJwt(value).sub), ['one|alice', 'two|alice'], 'the same sub is not the same person')
  t.same(await Promise.all(tokens.map(async (value) => (await api(value, '/two')).statusCode)), [401, 200])
  t.same(await Promise.all(tokens.map(async (value) => (await api(value)).statusCode)), [200, 200])
  await t.rejects(app.oidc.broker.revoke({ sid: 'x', provider: 'one' }), { code: 'FST_OIDC_OPTION' })
  t.equal(await app.oidc.broker.revoke({ sub: 'alice', provider: 'one' }), 1)
  t.equal(await app.oidc.broker.revoke({ sub: 'alice' }), 0, 'the tokens name nobody so')
  t.same(await Promise.all(tokens.map(async (value) => (await api(value)).statusCode)), [401, 200])
  const { challenge } = pkce()
  const browser = client({ app, baseUrl: BASE_URL })
  const choice = await browser.goto(
    `/auth/login?${new URLSearchParams({ redirect_uri: REDIRECT_URI, code_challenge: challenge, code_challenge_method: 'S256', state: 'x' }).toString()}`
  )
  t.match(
    choice.text(),
    /redirect_uri=http%3A%2F%2F127\.0\.0\.1%3A53100%2Fcallback/,
    'a native login goes on behind the choice'
  )
})

t.test('tenants: one that is removed or another one now ends its grants', async (t) => {
  const acme = await startProvider({ deviceInterval: 1 })
  t.teardown(async () => await acme.close())
  let clientId = 'web'
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    store: 'memory:',
    session: { key: SESSION_KEY },
    broker: { audience: AUDIENCE, nativeClients: { clientIds: ['cli'] } },
    resolveMaxAge: 0,
    resolveProvider: () => ({
      name: 'acme',
      issuer: acme.issuer,
      clientId,
      clientSecret: acme.clients[0]?.client_secret as string
    })
  })
  const { byDevice, token } = programs(app, acme)
  const first = await byDevice()
  t.equal(decodeJwt(first.access_token).sub, 'acme|alice')
  const browser = client({ app, baseUrl: BASE_URL })
  const { verifier, challenge } = pkce()
  const back = await untilNative(browser, {
    redirect_uri: REDIRECT_URI,
    code_challenge: challenge,
    code_challenge_method: 'S256'
  })
  clientId = 'other'
  t.match((await token({ grant_type: 'refresh_token', refresh_token: first.refresh_token })).json(), {
    error: 'invalid_grant'
  })
  t.match(
    (
      await token({
        grant_type: 'authorization_code',
        code: back.searchParams.get('code') as string,
        redirect_uri: REDIRECT_URI,
        code_verifier: verifier
      })
    ).json(),
    { error: 'invalid_grant' }
  )
})

t.test('V19 federation: instances trust one another, each with its own keys', async (t) => {
  const provider = await startProvider({ deviceInterval: 1 })
  t.teardown(async () => await provider.close())
  const instances = new Map<string, FastifyInstance>()
  let calls = 0
  let isDown = false
  const peerFetch = async (url: string, init: RequestInit): Promise<Response> => {
    const app = instances.get(new URL(url).origin)
    if (app === undefined) return await fetch(url, init)
    calls++
    if (isDown) throw new Error('down')
    const { statusCode, headers, payload } = await app.inject(new URL(url).pathname)
    return new Response(payload, { status: statusCode, headers: { 'content-type': String(headers['content-type']) } })
  }
  const create = async (
    name: string,
    trustedIssuers: BrokerOptions['trustedIssuers'] = [],
    more: Partial<OidcOptions> = {},
    brokerOptions: Partial<BrokerOptions> = {}
  ): Promise<ReturnType<typeof programs>> => {
    const baseUrl = `https://${name}.example.com`
    const app = await buildApp(
      t,
      optionsFor(provider, {
        baseUrl,
        store: createMemoryStore(),
        fetch: peerFetch,
        ...more,
        broker: { audience: AUDIENCE, trustedIssuers, ...brokerOptions }
      })
    )
    instances.set(baseUrl, app)
    app.get('/default', { preHandler: app.oidc.required({ provider: 'default' }) }, async () => 'in')
    return programs(app, provider)
  }
  const store = createMemoryStore()
  const one = await create('one', ['https://two.example.com'], { store })
  const two = await create('two', [
    { issuer: 'https://one.example.com', jwksUri: 'https://one.example.com/auth/.well-known/jwks.json' }
  ])
  const three = await create('three')
  const [ofOne, ofTwo, ofThree] = [
    (await one.byDevice()).access_token,
    (await two.byDevice()).access_token,
    (await three.byDevice()).access_token
  ]
  t.match(
    [(await one.api(ofTwo)).statusCode, (await one.api(ofTwo)).json()],
    [200, { token: { provider: 'https://two.example.com' }, claims: { sub: 'alice', iss: 'https://two.example.com' } }]
  )
  t.equal((await two.api(ofOne)).statusCode, 200)
  t.same(
    [(await one.api(ofThree)).statusCode, (await two.api(ofThree)).statusCode, (await three.api(ofOne)).statusCode],
    [401, 401, 401],
    'who is not trusted is refused'
  )
  t.equal(
    (await one.api(ofTwo, '/default')).statusCode,
    401,
    'a route for people of a provider is not for those of a peer'
  )
  const asOne = await create('one-too', ['https://two.example.com'])
  t.ok(asOne)
  const liar = await create('liar', [], {}, { issuer: 'https://two.example.com' })
  t.equal(
    (await one.api((await liar.byDevice()).access_token)).statusCode,
    401,
    'in the name of another one, with other keys'
  )
  const elsewhere = await create(
    'else',
    [],
    {},
    { issuer: 'https://two.example.com', audience: 'https://other.example.com' }
  )
  t.equal((await one.api((await elsewhere.byDevice()).access_token)).statusCode, 401)

  const before = calls
  for (let index = 0; index < 50; index++) await one.api(`${ofTwo.slice(0, -10)}${String(index).padStart(10, 'A')}`)
  t.ok(calls - before <= 6, `V19 a flood of wrong signatures does not flood the peer: ${calls - before}`)

  isDown = true
  const restarted = await create('one', ['https://two.example.com', 'https://four.example.com'], { store })
  t.equal((await restarted.api(ofTwo)).statusCode, 200, 'keys outlast a restart while the peer is down')
  const unknown = await restarted.api((await create('four').then(async (app) => await app.byDevice())).access_token)
  t.equal(unknown.statusCode, 503)
  isDown = false
  instances.set(
    'https://two.example.com',
    await buildApp(t, optionsFor(provider, { baseUrl: 'https://nothing.example.com' }))
  )
  const third = await create('third', ['https://two.example.com'])
  t.equal((await third.api(ofTwo)).statusCode, 502, 'what is no key set')
})

t.test('R9 a peer rotates its keys, and is followed', async (t) => {
  const clock = stopClock(t)
  const peer = await start(t, { baseUrl: 'https://peer.example.com' })
  const jwks = async (): Promise<string> => (await peer.app.inject('/auth/.well-known/jwks.json')).body
  let calls = 0
  const { api } = await start(t, {
    broker: { trustedIssuers: ['https://peer.example.com'] },
    fetch: async (url, init) => {
      if (!url.startsWith('https://peer.example.com')) return await fetch(url, init)
      calls++
      return new Response(await jwks(), { headers: { 'content-type': 'application/jwk-set+json' } })
    }
  })
  t.equal((await api((await peer.byDevice()).access_token)).statusCode, 200)
  await peer.app.oidc.broker.rotateKeys()
  clock.advance(601)
  t.equal((await api((await peer.byDevice()).access_token)).statusCode, 200)
  t.equal(calls, 2)
})

t.test('federation with py-oidc-auth', async (t) => {
  const { generateKeyPair, exportJWK, SignJWT } = await import('jose')
  const { privateKey, publicKey } = await generateKeyPair('RS256')
  const { createServer } = await import('node:http')
  const server = createServer((_request, response) => {
    exportJWK(publicKey).then(
      (jwk) =>
        response
          .setHeader('content-type', 'application/json')
          .end(JSON.stringify({ keys: [{ ...jwk, kid: 'a', alg: 'RS256', use: 'sig' }] })),
      () => response.destroy()
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const issuer = `http://127.0.0.1:${(server.address() as { port: number }).port}`
  const sign = async (claims: JWTPayload, header: Record<string, string> = {}): Promise<string> =>
    await new SignJWT({
      sub: 'alice',
      preferred_username: 'alice',
      email: 'alice@example.com',
      roles: ['admin'],
      jti: 'x',
      iss: issuer,
      aud: AUDIENCE,
      ...claims
    })
      .setProtectedHeader({ alg: 'RS256', kid: 'a', typ: 'JWT', ...header })
      .setIssuedAt()
      .setExpirationTime('1h')
      .sign(privateKey)
  const lax = await start(t, { broker: { trustedIssuers: [{ issuer, strictType: false }] } })
  const answer = await lax.api(await sign({}), '/admin')
  t.match([answer.statusCode, answer.json()], [200, { claims: { preferred_username: 'alice' } }])
  t.equal((await lax.api(await sign({ nonce: 'x' }))).statusCode, 401, 'but no ID token')
  t.equal((await lax.api(await sign({}, { typ: 'logout+jwt' }))).statusCode, 401)
  t.equal((await lax.api(await sign({ jti: undefined as never }))).statusCode, 401)
  const strict = await start(t, { broker: { trustedIssuers: [issuer] } })
  t.equal((await strict.api(await sign({}))).statusCode, 401)
  t.equal((await strict.api(await sign({}, { typ: 'at+jwt' }))).statusCode, 200)
  t.match((await lax.api(await sign({}), '/auth/userinfo')).json(), { username: 'alice', email: 'alice@example.com' })
})

t.test('userinfo by access token', async (t) => {
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
    { sub: 'bob', username: 'bobby', first_name: null }
  )
  const browser = await logIn({ app, provider }, 'alice')
  t.match(
    (await browser.fetch('/auth/userinfo')).json(),
    { sub: 'alice', name: String },
    'a session gets what the provider says'
  )
})

t.test('RFC 8414 the metadata by which clients find the rest', async (t) => {
  const { app } = await start(t, { broker: { resourceServers: { a: 'x'.repeat(32) } } })
  const { headers, ...answer } = await app.inject('/.well-known/oauth-authorization-server')
  t.match(headers, { 'cache-control': 'public, max-age=3600', 'access-control-allow-origin': '*' })
  t.same(answer.json(), {
    issuer: BASE_URL,
    token_endpoint: `${BASE_URL}/auth/token`,
    jwks_uri: `${BASE_URL}/auth/.well-known/jwks.json`,
    device_authorization_endpoint: `${BASE_URL}/auth/device`,
    revocation_endpoint: `${BASE_URL}/auth/revoke`,
    token_endpoint_auth_methods_supported: ['none'],
    revocation_endpoint_auth_methods_supported: ['none'],
    grant_types_supported: ['authorization_code', 'refresh_token', DEVICE, EXCHANGE],
    response_types_supported: ['code'],
    authorization_endpoint: `${BASE_URL}/auth/login`,
    code_challenge_methods_supported: ['S256'],
    authorization_response_iss_parameter_supported: true,
    introspection_endpoint: `${BASE_URL}/auth/introspect`,
    introspection_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post']
  })
  t.same((await app.inject('/.well-known/oauth-protected-resource')).json().authorization_servers, [BASE_URL])
  const other = await start(t, {
    routes: { device: false, revoke: false, introspect: false, jwks: false },
    broker: { issuer: `${BASE_URL}/tenant`, nativeClients: undefined as never }
  })
  const metadata = (await other.app.inject('/.well-known/oauth-authorization-server/tenant')).json()
  t.match(metadata, { issuer: `${BASE_URL}/tenant`, response_types_supported: [] })
  t.notOk('device_authorization_endpoint' in metadata)
  const below = await start(t, { baseUrl: `${BASE_URL}/app`, broker: { issuer: `${BASE_URL}/app` } })
  t.match(
    (await below.app.inject('/.well-known/oauth-authorization-server')).json(),
    { issuer: `${BASE_URL}/app`, token_endpoint: `${BASE_URL}/app/auth/token` },
    'a proxy in front maps what is not below the application'
  )
  t.same(
    await Promise.all(
      ['device', 'revoke', 'introspect', '.well-known/jwks.json'].map(
        async (path) => (await other.app.inject({ method: 'POST', url: `/auth/${path}` })).statusCode
      )
    ),
    [404, 404, 404, 404]
  )
})

t.test('without a broker the provider\'s tokens are passed through', async (t) => {
  const lines: string[] = []
  const { app, provider } = await startApp(
    t,
    { routes: { token: 'token', device: 'device' } },
    { deviceInterval: 1 },
    {
      logger: {
        level: 'warn',
        stream: {
          write: (line: string) => {
            lines.push(line)
          }
        }
      }
    }
  )
  t.equal(lines.filter((line) => line.includes('no certain audience')).length, 1)
  const { post, token } = programs(app, provider)
  const { device_code: deviceCode } = (await post('device', {})).json()
  t.equal(provider.requests.at(-1)?.body['scope'], 'openid profile email', 'nothing beyond the options')
  provider.approveDevice()
  const answer = (await token({ grant_type: DEVICE, device_code: deviceCode })).json()
  t.match(answer, {
    access_token: String,
    token_type: 'Bearer',
    expires_in: Number,
    expires: Number,
    scope: 'openid profile email'
  })
  const { refresh_token: refreshToken } = await tokensOf(provider)
  t.match((await token({ grant_type: 'refresh_token', refresh_token: refreshToken, scope: 'openid' })).json(), {
    access_token: String,
    refresh_token: String,
    scope: 'openid'
  })
  t.match((await token({ grant_type: 'refresh_token', refresh_token: 'x' })).json(), { error: 'invalid_grant' })
  t.match(
    (
      await token({ grant_type: 'authorization_code', code: 'x', redirect_uri: REDIRECT_URI, code_verifier: 'y' })
    ).json(),
    { error: 'invalid_grant' }
  )
  t.match(provider.requests.at(-1)?.body, {
    code: 'x',
    redirect_uri: REDIRECT_URI,
    code_verifier: 'y',
    grant_type: 'authorization_code'
  })
  t.match((await token({ grant_type: EXCHANGE, subject_token: 'x' })).json(), { error: 'unsupported_grant_type' })
  provider.fault({
    on: 'token',
    answer: (given) => {
      Object.assign(given, { status: 200, body: JSON.stringify({ access_token: 'x', token_type: 'bearer' }) })
    }
  })
  t.same((await token({ grant_type: 'refresh_token', refresh_token: 'x' })).json(), {
    access_token: 'x',
    token_type: 'Bearer'
  })
  t.equal(
    (await (await startApp(t)).app.inject({ method: 'POST', url: '/auth/token' })).statusCode,
    404,
    'only where the application says so'
  )
})

/** Tokens that the provider gave this client for offline access. */
async function tokensOf (provider: Provider): Promise<{ refresh_token: string }> {
  const { challenge, verifier } = pkce()
  const redirectUri = `${BASE_URL}/auth/callback`
  const query = new URLSearchParams({
    client_id: 'web',
    response_type: 'code',
    redirect_uri: redirectUri,
    scope: 'openid profile email offline_access',
    code_challenge: challenge,
    code_challenge_method: 'S256',
    state: 'x'.repeat(22),
    nonce: 'y'.repeat(22),
    prompt: 'consent'
  })
  const { location } = Object.fromEntries(
    (await fetch(`${provider.issuer}/authorize?${query.toString()}`, { redirect: 'manual' })).headers
  ) as { location: string }
  const code = new URL(location).searchParams.get('code') as string
  const authorization = `Basic ${Buffer.from(`web:${provider.clients[0]?.client_secret as string}`).toString('base64')}`
  const response = await fetch(`${provider.issuer}/token`, {
    method: 'POST',
    headers: { authorization },
    body: new URLSearchParams({
      grant_type: 'authorization_code',
      code,
      redirect_uri: redirectUri,
      code_verifier: verifier
    })
  })
  return (await response.json()) as { refresh_token: string }
}

t.test('S82 options that are wrong', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const bad: Array<[Record<string, unknown>, RegExp]> = [
    [{ broker: {} }, /broker.audience/],
    [{ broker: 1 }, /"broker"/],
    [{ broker: { audience: 'a', other: 1 } }, /broker.other/],
    [{ broker: { audience: 'a' }, store: undefined }, /needs a "store"/],
    [{ broker: { audience: 'a' }, routes: { token: false } }, /needs "routes.token"/],
    [{ routes: { jwks: 'keys' } }, /are those of a "broker"/],
    [{ broker: { audience: 'a', accessTokenTtl: 0 } }, /accessTokenTtl/],
    [{ broker: { audience: 'a', signingAlg: 'HS256' } }, /signingAlg/],
    [{ broker: { audience: 'a', issuer: provider.issuer } }, /nobody else/],
    [{ broker: { audience: 'a', trustedIssuers: 'x' } }, /must be an array/],
    [{ broker: { audience: 'a', trustedIssuers: [1] } }, /addresses or objects/],
    [{ broker: { audience: 'a', trustedIssuers: [{ issuer: 'https://a.test', keys: 1 }] } }, /trustedIssuers.keys/],
    [{ broker: { audience: 'a', trustedIssuers: ['http://a.test'] } }, /https URL/],
    [{ broker: { audience: 'a', trustedIssuers: ['https://a.test', 'https://a.test'] } }, /each issuer once/],
    [{ broker: { audience: 'a', trustedIssuers: [BASE_URL] } }, /nobody else/],
    [{ broker: { audience: 'a', nativeClients: { redirectUris: ['http://a.test/'] } } }, /redirectUris/],
    [
      { broker: { audience: 'a', nativeClients: { redirectUris: ['https://a.test/#x'] } } },
      /no credentials and no fragment/
    ],
    [{ broker: { audience: 'a', nativeClients: { redirectUris: ['nope'] } } }, /redirectUris/],
    [{ broker: { audience: 'a', nativeClients: { redirectUris: ['javascript:alert(1)'] } } }, /redirectUris/],
    [{ broker: { audience: 'a', nativeClients: [] } }, /must be an object/],
    [{ broker: { audience: 'a', resourceServers: { a: 'short' } } }, /at least 32 bytes/],
    [{ broker: { audience: 'a', resourceServers: 'x' } }, /names and secrets/],
    [{ broker: { audience: 'a', claims: 1 } }, /must be a function/]
  ]
  for (const [options, message] of bad) {
    await t.rejects(
      buildApp(t, optionsFor(provider, { store: 'memory:', ...options } as never)),
      { code: 'FST_OIDC_OPTION', message },
      JSON.stringify(options)
    )
  }
})

t.test('V31 nothing in the store can be used by who reads it', async (t) => {
  const store = createMemoryStore()
  const written: string[] = []
  const spy = {
    ...store,
    set: async (...args: Parameters<typeof store.set>) => {
      written.push(JSON.stringify(args))
      await store.set(...args)
    },
    create: async (...args: Parameters<typeof store.create>) => {
      written.push(JSON.stringify(args))
      return await store.create(...args)
    },
    replace: async (...args: Parameters<typeof store.replace>) => {
      written.push(JSON.stringify(args))
      return await store.replace(...args)
    }
  }
  const { byDevice, token } = await start(t, { store: spy })
  const first = await byDevice()
  const second = (await token({ grant_type: 'refresh_token', refresh_token: first.refresh_token })).json() as Tokens
  const text = written.join('\n')
  t.ok(written.length >= 3)
  for (const secret of [
    first.access_token,
    first.refresh_token,
    second.refresh_token,
    'alice',
    '"d":',
    String(decodeJwt(first.access_token)['sid'])
  ]) { t.notOk(text.includes(secret)) }
})

t.test('R18 the store is down: 503, and nothing is taken for granted', async (t) => {
  const { store, fault } = faultyStore()
  const { byDevice, api, token, post } = await start(t, { store })
  const tokens = await byDevice()
  fault.verbs = new Set(['all'])
  t.equal((await api(tokens.access_token)).statusCode, 503, 'whether it was revoked cannot be told')
  const refresh = await token({ grant_type: 'refresh_token', refresh_token: tokens.refresh_token })
  t.match([refresh.statusCode, refresh.json().error], [503, 'temporarily_unavailable'])
  t.equal((await post('revoke', { token: tokens.access_token })).statusCode, 503, 'no revocation claims success')
  t.match(
    (await token({ grant_type: 'refresh_token', refresh_token: 'forged' })).json(),
    { error: 'invalid_grant' },
    'what is forged does not get as far'
  )
  fault.verbs = null
  t.equal((await api(tokens.access_token)).statusCode, 200)
  t.equal((await token({ grant_type: 'refresh_token', refresh_token: tokens.refresh_token })).statusCode, 200)
})

t.test('R18 the keys are away for long: 503, and later all is well', async (t) => {
  const clock = stopClock(t)
  const { store, fault } = faultyStore()
  const { byDevice, api, post, app } = await start(t, { store })
  const { access_token: token } = await byDevice()
  clock.advance(3700)
  fault.verbs = new Set(['all'])
  t.same(
    [
      (await api(token)).statusCode,
      (await post('revoke', { token })).statusCode,
      (await app.inject('/auth/.well-known/jwks.json')).statusCode
    ],
    [503, 503, 503]
  )
  fault.verbs = null
  clock.advance(2)
  t.equal((await api((await byDevice()).access_token)).statusCode, 200)
  const { store: down, fault: always } = faultyStore()
  always.verbs = new Set(['all'])
  const late = await start(t, { store: down })
  t.equal((await late.app.inject('/')).statusCode, 200, 'the application starts without the store')
  always.verbs = null
  clock.advance(2)
  t.equal((await late.api((await late.byDevice()).access_token)).statusCode, 200)
})

t.test('what an application returns and nobody can write down is its own fault', async (t) => {
  const { post, token, provider } = await start(t, { broker: { onIssue: () => ({ big: 1n }) } })
  const { device_code: deviceCode } = (await post('device', {})).json()
  provider.approveDevice()
  const answer = await token({ grant_type: DEVICE, device_code: deviceCode })
  t.match(
    [answer.statusCode, answer.json()],
    [500, { error: 'server_error', error_description: 'Something went wrong.' }]
  )
})

t.test('anybody verifies a token with the published keys', async (t) => {
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
