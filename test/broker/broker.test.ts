import { decodeJwt } from 'jose'
import t from 'tap'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor, registrationOf } from '../support/app.ts'
import {
  AUDIENCE, DEVICE, EXCHANGE, REDIRECT_URI, pkce, clientsOf, refresh, start, followToNative
} from '../support/broker.ts'
import { faultyStore } from '../support/modes.ts'
import type { Provider } from '../../lib/testing/index.ts'
import type { Tokens } from '../support/broker.ts'

t.test('S69 the token endpoint refuses invalid requests', async (t) => {
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

t.test('RFC 8414: the metadata lists the endpoints of the broker', async (t) => {
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
    'a proxy maps the well-known path, which is outside of the base URL'
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

t.test('V19 users of several providers have distinct subjects', async (t) => {
  const [one, two] = [await startProvider({ deviceInterval: 1 }), await startProvider({ deviceInterval: 1 })]
  t.teardown(async () => {
    await one.close()
    await two.close()
  })
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    store: 'memory:',
    session: { key: SESSION_KEY },
    broker: { audience: AUDIENCE, nativeClients: {} },
    providers: { one: registrationOf(one), two: registrationOf(two) }
  })
  const { post, token, api } = clientsOf(app, one)
  app.get('/two', { preHandler: app.oidc.required({ provider: 'two' }) }, async ({ oidcToken }) => oidcToken?.provider)
  t.match((await post('device', {})).json(), { error: 'invalid_request' }, 'the request must name the provider')
  t.match([(await post('device', { provider: 'three' })).statusCode], [400])
  const tokenFor = async (name: string, provider: Provider): Promise<string> => {
    const { device_code: deviceCode } = (await post('device', { provider: name })).json()
    provider.approveDevice(undefined, 'alice')
    return (await token({ grant_type: DEVICE, device_code: deviceCode })).json().access_token
  }
  const tokens = [await tokenFor('one', one), await tokenFor('two', two)]
  t.same(
    tokens.map((value) => decodeJwt(value).sub),
    ['one|alice', 'two|alice'],
    'the same sub at two providers is two users'
  )
  t.same(await Promise.all(tokens.map(async (value) => (await api(value, '/two')).statusCode)), [401, 200])
  t.same(await Promise.all(tokens.map(async (value) => (await api(value)).statusCode)), [200, 200])
  await t.rejects(app.oidc.broker.revoke({ sid: 'x', provider: 'one' }), { code: 'FST_OIDC_OPTION' })
  t.equal(await app.oidc.broker.revoke({ sub: 'alice', provider: 'one' }), 1)
  t.equal(await app.oidc.broker.revoke({ sub: 'alice' }), 0, 'no token has this subject')
  t.same(await Promise.all(tokens.map(async (value) => (await api(value)).statusCode)), [401, 200])
  const { challenge } = pkce()
  const browser = client({ app, baseUrl: BASE_URL })
  const query = new URLSearchParams({
    redirect_uri: REDIRECT_URI,
    code_challenge: challenge,
    code_challenge_method: 'S256',
    state: 'x'
  })
  const choice = await browser.goto(`/auth/login?${query.toString()}`)
  t.match(
    choice.text(),
    /redirect_uri=http%3A%2F%2F127\.0\.0\.1%3A53100%2Fcallback/,
    'the page to choose a provider keeps the native login'
  )
})

t.test('the grants of a tenant end when the tenant has another client', async (t) => {
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
  const { byDevice, token } = clientsOf(app, acme)
  const first = await byDevice()
  t.equal(decodeJwt(first.access_token).sub, 'acme|alice')
  const browser = client({ app, baseUrl: BASE_URL })
  const { verifier, challenge } = pkce()
  const back = await followToNative(browser, {
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

t.test('the grants of a tenant end when the tenant is removed', async (t) => {
  const acme = await startProvider({ deviceInterval: 1, refreshTokens: 'never' })
  t.teardown(async () => await acme.close())
  let isGone = false
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    store: 'memory:',
    session: { key: SESSION_KEY },
    broker: { audience: AUDIENCE },
    resolveMaxAge: 0,
    resolveProvider: () =>
      isGone
        ? null
        : { name: 'acme', issuer: acme.issuer, clientId: 'web', clientSecret: acme.clients[0]?.client_secret as string }
  })
  const world = clientsOf(app, acme)
  const tokens = await world.byDevice()
  isGone = true
  t.match((await refresh(world, tokens)).json(), { error: 'invalid_grant' })
  t.equal((await world.api(tokens.access_token)).statusCode, 401)
})

t.test('V31 the store contains no token, no subject and no private key', async (t) => {
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

t.test('R18 without the store the answer is 503', async (t) => {
  const { store, fault } = faultyStore()
  const { byDevice, api, token, post } = await start(t, { store })
  const tokens = await byDevice()
  fault.verbs = new Set(['all'])
  t.equal((await api(tokens.access_token)).statusCode, 503, 'without the store no token is accepted as not revoked')
  const refresh = await token({ grant_type: 'refresh_token', refresh_token: tokens.refresh_token })
  t.match([refresh.statusCode, refresh.json().error], [503, 'temporarily_unavailable'])
  t.equal((await post('revoke', { token: tokens.access_token })).statusCode, 503, 'a revocation does not claim success')
  t.match(
    (await token({ grant_type: 'refresh_token', refresh_token: 'forged' })).json(),
    { error: 'invalid_grant' },
    'a forged refresh token needs no store'
  )
  fault.verbs = null
  t.equal((await api(tokens.access_token)).statusCode, 200)
  t.equal((await token({ grant_type: 'refresh_token', refresh_token: tokens.refresh_token })).statusCode, 200)
})

t.test('S82 invalid options are refused', async (t) => {
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
    [{ broker: { audience: 'a', issuer: provider.issuer } }, /must differ/],
    [{ broker: { audience: 'a', trustedIssuers: 'x' } }, /must be an array/],
    [{ broker: { audience: 'a', trustedIssuers: [1] } }, /addresses or objects/],
    [{ broker: { audience: 'a', trustedIssuers: [{ issuer: 'https://a.test', keys: 1 }] } }, /trustedIssuers.keys/],
    [{ broker: { audience: 'a', trustedIssuers: ['http://a.test'] } }, /https URL/],
    [{ broker: { audience: 'a', trustedIssuers: ['https://a.test', 'https://a.test'] } }, /each issuer once/],
    [{ broker: { audience: 'a', trustedIssuers: [BASE_URL] } }, /must differ/],
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
