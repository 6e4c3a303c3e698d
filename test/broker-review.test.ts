import { randomBytes } from 'node:crypto'
import { decodeJwt } from 'jose'
import t from 'tap'
import { coreOf } from '../lib/compose.ts'
import { OidcError } from '../lib/errors.ts'
import { createMemoryStore } from '../lib/store/memory.ts'
import { faults, startProvider } from '../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor, startApp, stopClock } from './support/app.ts'
import { AUDIENCE, DEVICE, EXCHANGE, REDIRECT_URI, pkce, programs, refusal, start } from './support/broker.ts'
import { createGate } from './support/gate.ts'
import { faultyStore } from './support/modes.ts'
import { startOidcProvider } from './support/oidc-provider.ts'
import { until } from './support/until.ts'
import { createUserAgent } from './support/user-agent.ts'
import type { LightMyRequestResponse } from 'fastify'
import type { OidcOptions } from '../index.ts'
import type { Broker } from '../lib/broker/broker.ts'
import type { Store } from '../types/store.ts'
import type { Tokens, World } from './support/broker.ts'

const PROVIDER_API = 'https://web.example.com'

type Claims = Record<string, unknown>

async function refresh (
  { token }: Pick<World, 'token'>,
  { refresh_token: refreshToken }: Tokens,
  more: Record<string, string> = {}
): Promise<LightMyRequestResponse> {
  return await token({ grant_type: 'refresh_token', refresh_token: refreshToken, ...more })
}

async function exchange (
  { token }: Pick<World, 'token'>,
  subjectToken: string,
  more: Record<string, string> = {}
): Promise<LightMyRequestResponse> {
  return await token({ grant_type: EXCHANGE, subject_token: subjectToken, ...more })
}

async function startExchange (
  t: Parameters<typeof start>[0],
  options: Parameters<typeof start>[1] = {}
): Promise<World & { subject: (overrides?: Claims) => string }> {
  const world = await start(t, { bearer: { audience: PROVIDER_API }, ...options })
  return {
    ...world,
    subject: (overrides = {}) =>
      world.provider.accessToken({ sub: 'alice', overrides: { aud: PROVIDER_API, ...overrides } })
  }
}

/** The tokens that were revoked at the provider. */
function revokedAt ({ provider }: World): Array<string | undefined> {
  return provider.requests
    .filter(({ endpoint }) => endpoint === 'revocation')
    .map(({ body }) => body['token'] as string)
}

t.test('S72 a client cannot choose whose roles a person has', async (t) => {
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
    'the roles are those of this application at the provider'
  )
  t.equal((await world.api(token, '/admin')).statusCode, 403)

  const other = await startExchange(t, { roleClaims })
  const answer = (await exchange(other, other.subject(access), { client_id: 'cli' })).json()
  t.same(decodeJwt(answer.access_token)['roles'], ['reader'])
})

t.test('S58 what the provider withdraws is over with the next refresh', async (t) => {
  const world = await start(t)
  const off = world.provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, roles: ['admin'] }) })
  const first = await world.byDevice()
  t.equal((await world.api(first.access_token, '/admin')).statusCode, 200)
  off()
  const withoutRoles = world.provider.fault({ on: 'token', idToken: ({ roles, ...claims }) => claims })
  const second: Tokens = (await refresh(world, first)).json()
  t.equal((await world.api(second.access_token, '/admin')).statusCode, 403, 'a role that is not there any more')
  withoutRoles()

  t.equal((await world.api(second.access_token, '/mail')).statusCode, 200)
  world.provider.fault({ on: 'token', times: 1, tokenResponse: (answer) => ({ ...answer, scope: 'openid profile' }) })
  t.match(
    (await refresh(world, second, { scope: 'email' })).json(),
    { error: 'invalid_scope' },
    'a scope that was asked for'
  )
  world.provider.fault({ on: 'token', times: 1, tokenResponse: (answer) => ({ ...answer, scope: 'openid profile' }) })
  const third: Tokens = (await refresh(world, second)).json()
  t.equal(third['scope'], 'openid profile')
  t.equal((await world.api(third.access_token, '/mail')).statusCode, 403)
})

t.test('S58 a refresh asks UserInfo where a login does, and a hook that fails loses nothing', async (t) => {
  const clock = stopClock(t)
  let isAway = false
  const world = await start(t, {
    userinfo: true,
    parseClaims: ({ iss, sub, email }) => {
      if (isAway) throw new Error('the database is away')
      if (email === undefined) throw new Error('no email')
      return { iss, sub, email }
    }
  })
  world.provider.fault({ on: 'token', idToken: ({ email, email_verified: _, ...claims }) => claims })
  const first = await world.byDevice()
  isAway = true
  t.match((await refresh(world, first)).json(), { error: 'access_denied' })
  isAway = false
  clock.advance(61)
  const second: Tokens = (await refresh(world, first)).json()
  t.match(decodeJwt(second.access_token), { sub: 'alice', email: 'alice@example.com' })
  world.provider.fault({ on: 'userinfo', times: 1, status: 503 })
  t.match((await refresh(world, second)).json(), { error: 'temporarily_unavailable' })
  clock.advance(61)
  t.equal((await refresh(world, second)).statusCode, 200)
})

t.test('S60 the resource of a device flow is that of its refresh', async (t) => {
  const resource = 'https://res.example.com'
  const kit = await start(t, { resource, audience: 'urn:api' })
  await refresh(kit, await kit.byDevice())
  const asked = kit.provider.requests.filter(({ endpoint }) => ['device', 'token'].includes(endpoint))
  t.same(asked.map(({ body }) => body['resource']), [resource, resource, resource])
  t.equal(asked[0]?.body['audience'], 'urn:api')

  const provider = await startOidcProvider({ redirectUris: [`${BASE_URL}/auth/callback`] })
  t.teardown(async () => await provider.close())
  const app = await buildApp(t, {
    issuer: provider.issuer,
    clientId: provider.clientId,
    clientSecret: provider.clientSecret,
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    store: 'memory:',
    session: { key: SESSION_KEY },
    resource,
    broker: { audience: AUDIENCE }
  })
  const world = programs(app, kit.provider)
  const device = (await world.post('device', {})).json()
  const person = createUserAgent()
  let page = await person.open(device.verification_uri_complete)
  for (let steps = 0; steps < 6 && !page.body.includes('The device is logged in'); steps++) {
    page = await person.submit(page, { login: 'alice', password: 'x' })
  }
  const tokens: Tokens = (await world.token({ grant_type: DEVICE, device_code: device.device_code })).json()
  const second = await refresh(world, tokens)
  t.equal(second.statusCode, 200, second.body)
  t.equal((await world.api(second.json().access_token)).statusCode, 200)
})

t.test('R18 a store that fails in the middle of a refresh logs nobody out', async (t) => {
  const { store, fault } = faultyStore()
  const world = await start(t, { store, timeout: 0.5 })
  const first = await world.byDevice()
  fault.verbs = new Set(['replace'])
  t.match((await refresh(world, first)).json(), { error: 'temporarily_unavailable' })
  fault.verbs = null
  const second: Tokens = (await refresh(world, first)).json()
  t.equal((await world.api(second.access_token)).statusCode, 200)
  t.equal(world.provider.requests.filter(({ body }) => body['grant_type'] === 'refresh_token').length, 1)
  t.equal((await refresh(world, second)).statusCode, 200, 'with the new token of the provider')

  const without = await start(t, { store }, { refreshTokens: 'never' })
  const only = await without.byDevice()
  fault.verbs = new Set(['replace'])
  t.match((await refresh(without, only)).json(), { error: 'temporarily_unavailable' })
  fault.verbs = null
  t.equal((await refresh(without, only)).statusCode, 200)
})

t.test('V19 a tenant cannot call itself by the name of a peer, or of the broker', async (t) => {
  const mallory = await startProvider()
  t.teardown(async () => await mallory.close())
  for (const issuer of ['https://peer.example.com', BASE_URL]) {
    const app = await buildApp(t, {
      baseUrl: BASE_URL,
      allowInsecureLoopback: true,
      store: 'memory:',
      session: { key: SESSION_KEY },
      bearer: { audience: AUDIENCE },
      broker: { audience: AUDIENCE, trustedIssuers: ['https://peer.example.com'] },
      resolveProvider: (_request, name = 'mallory') => ({
        name,
        issuer,
        metadata: {
          issuer,
          authorization_endpoint: `${mallory.issuer}/authorize`,
          token_endpoint: `${mallory.issuer}/token`,
          jwks_uri: `${mallory.issuer}/jwks`
        },
        clientId: 'web',
        clientSecret: 'x'
      })
    })
    const world = programs(app, mallory)
    t.equal((await app.inject('/auth/mallory/login')).statusCode, 500)
    const forged = mallory.accessToken({ sub: 'alice', overrides: { iss: issuer, aud: AUDIENCE } })
    t.not((await world.api(forged)).statusCode, 200, issuer)
  }
})

t.test('a tenant that is gone gets no tokens', async (t) => {
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
  const world = programs(app, acme)
  const tokens = await world.byDevice()
  isGone = true
  t.match((await refresh(world, tokens)).json(), { error: 'invalid_grant' })
  t.equal((await world.api(tokens.access_token)).statusCode, 401)
})

t.test('signing keys that no session key opens any more', async (t) => {
  const { store, fault } = faultyStore()
  const provider = await startProvider({ deviceInterval: 1 })
  t.teardown(async () => await provider.close())
  const make = async (key: string): Promise<Omit<World, 'provider' | 'browser'>> =>
    programs(
      await buildApp(t, optionsFor(provider, { store, session: { key }, broker: { audience: AUDIENCE } })),
      provider
    )
  const { access_token: token } = await (await make(SESSION_KEY)).byDevice()
  const after = await make(randomBytes(32).toString('base64'))
  const jwks = async (): Promise<number> => (await after.app.inject('/auth/.well-known/jwks.json')).statusCode
  t.equal(await jwks(), 503)
  fault.verbs = new Set(['all'])
  await t.rejects(
    after.app.oidc.broker.rotateKeys(),
    { code: 'FST_OIDC_STORE_UNAVAILABLE' },
    'a store that is down is another matter'
  )
  fault.verbs = null
  await after.app.oidc.broker.rotateKeys()
  t.equal(await jwks(), 200, 'new ones, when the application says so')
  t.equal((await after.api((await after.byDevice()).access_token)).statusCode, 200)
  t.equal((await after.api(token)).statusCode, 401)
})

t.test('a grant that no session key opens any more can still be ended', async (t) => {
  const [provider, store] = [await startProvider({ deviceInterval: 1 }), createMemoryStore()]
  t.teardown(async () => await provider.close())
  const withKeys = async (...key: string[]): Promise<ReturnType<typeof programs>> =>
    programs(
      await buildApp(t, { ...optionsFor(provider), store, session: { key }, broker: { audience: AUDIENCE } }),
      provider
    )
  const newKey = randomBytes(32).toString('base64')
  const { access_token: token } = await (await withKeys(SESSION_KEY)).byDevice()
  t.equal(
    (await (await withKeys(newKey, SESSION_KEY)).app.inject('/auth/.well-known/jwks.json')).statusCode,
    200,
    'the signing keys are sealed anew'
  )
  const { api, post } = await withKeys(newKey)
  t.equal((await api(token)).statusCode, 200)
  t.equal((await post('revoke', { token })).statusCode, 200)
  t.equal((await api(token)).statusCode, 401)
})

t.test('a store that lost the signing keys gets them back', async (t) => {
  const clock = stopClock(t)
  const store = createMemoryStore({ max: 20 })
  const world = await start(t, { store })
  let last = await world.byDevice()
  for (let count = 0; count < 19; count++) last = await world.byDevice()
  clock.advance(61)
  t.equal((await world.api(last.access_token)).statusCode, 200)
})

t.test('a clock that is set back', async (t) => {
  const clock = stopClock(t)
  const world = await start(t)
  await world.app.ready()
  clock.advance(-30)
  t.equal((await world.api((await world.byDevice()).access_token)).statusCode, 200, 'the key signs all the same')
})

t.test('two processes with different signing algorithms get on with each other', async (t) => {
  const clock = stopClock(t)
  const store = createMemoryStore()
  const provider = await startProvider({ deviceInterval: 1 })
  t.teardown(async () => await provider.close())
  const make = async (signingAlg: 'ES256' | 'EdDSA'): Promise<Omit<World, 'provider' | 'browser'>> =>
    programs(
      await buildApp(t, optionsFor(provider, { store, broker: { audience: AUDIENCE, signingAlg, keyLifetime: 7200 } })),
      provider
    )
  const algs = async ({ app }: Pick<World, 'app'>): Promise<string[]> =>
    (await app.inject('/auth/.well-known/jwks.json')).json().keys.map(({ alg }: { alg: string }) => alg)
  const [before, after] = [await make('ES256'), await make('EdDSA')]
  for (let minutes = 0; minutes < 60; minutes++) {
    clock.advance(61)
    await algs(before)
    t.same(await algs(after), ['ES256', 'EdDSA'])
  }
  for (const [world, other, alg] of [[before, after, 'ES256'], [after, before, 'EdDSA']] as const) {
    const { access_token: token } = await world.byDevice()
    t.equal(JSON.parse(Buffer.from(token.split('.')[0] as string, 'base64url').toString()).alg, alg)
    t.equal((await other.api(token)).statusCode, 200)
  }
  // Only the new one goes on: the old key goes when its time is over.
  for (let hours = 0; hours < 4; hours++) {
    clock.advance(3600)
    await algs(after)
  }
  t.notOk((await algs(after)).includes('ES256'))
})

t.test('V33 codes of the own callback are not for programs', async (t) => {
  const { app, provider } = await startApp(t, { routes: { token: 'token' }, audience: 'x' })
  const { token } = programs(app, provider)
  const { verifier, challenge } = pkce()
  const codeFor = async (redirectUri: string): Promise<string> => {
    const query = new URLSearchParams({
      client_id: 'web',
      response_type: 'code',
      redirect_uri: redirectUri,
      scope: 'openid',
      state: 'x'.repeat(22),
      nonce: 'y'.repeat(22),
      code_challenge: challenge,
      code_challenge_method: 'S256'
    })
    const response = await fetch(`${provider.issuer}/authorize?${query.toString()}`, { redirect: 'manual' })
    return new URL(response.headers.get('location') as string).searchParams.get('code') as string
  }
  const own = `${BASE_URL}/auth/callback`
  const sent = { grant_type: 'authorization_code', code: await codeFor(own), code_verifier: verifier }
  provider.clearRequests()
  for (const redirectUri of [
    own,
    'HTTPS://APP.example.com/auth/callback',
    'https://app.example.com:443/auth/./callback'
  ]) {
    t.match((await token({ ...sent, redirect_uri: redirectUri })).json(), { error: 'invalid_grant' }, redirectUri)
  }
  t.match((await token(sent)).json(), { error: 'invalid_request', error_description: /redirect_uri/ })
  const { code_verifier: _, ...without } = sent
  t.match(
    (await token({ ...without, redirect_uri: REDIRECT_URI })).json(),
    { error: 'invalid_request', error_description: /code_verifier/ },
    'S4 PKCE'
  )
  t.equal(provider.count('token'), 0)
})

t.test('S72 which tokens of the provider are exchanged', async (t) => {
  const clock = stopClock(t)
  const now = Math.floor(Date.now() / 1000)
  const world = await startExchange(t, { session: { key: SESSION_KEY, maxAge: 600 } })
  t.equal((await exchange(world, world.subject())).statusCode, 200)
  t.match(
    (await exchange(world, world.subject({ exp: now - 5 }))).json(),
    { error: 'invalid_grant', error_description: /expired/ },
    'the tolerance is not for new tokens'
  )

  const early = (await exchange(world, world.subject({ iat: now + 20 }))).json()
  await world.app.oidc.sessions.revoke({ sub: 'alice' })
  t.equal((await world.api(early.access_token)).statusCode, 401, 'a clock that is ahead does not outlast a logout')

  const old = world.subject()
  clock.advance(2)
  await world.app.oidc.sessions.revoke({ sub: 'alice' })
  t.match((await exchange(world, old)).json(), { error: 'invalid_grant' })
  clock.advance(700)
  t.match(
    (await exchange(world, old)).json(),
    { error: 'invalid_grant', error_description: /too old/ },
    'nor is the logout forgotten'
  )

  const bound = await startExchange(t, { bearer: { audience: PROVIDER_API, dpop: 'required' } })
  t.equal((await bound.api(bound.subject())).statusCode, 401)
  t.match(
    (await exchange(bound, bound.subject())).json(),
    { error: 'invalid_grant' },
    'what is refused at the API is not exchanged'
  )
})

t.test('a narrow scope is narrow', async (t) => {
  const world = await startExchange(t, {
    broker: { claims: (claims) => ({ ...claims, scope: 'openid profile email admin' }) }
  })
  t.equal(
    (await exchange(world, world.subject({ scope: 'openid email profile' }), { scope: 'email' })).json().scope,
    'email',
    'the claims of a person have no say in it'
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
    username: null,
    last_name: null,
    first_name: null,
    pw_name: null,
    email: null
  })
})

t.test('S61 a grant that ends, ends at the provider too', async (t) => {
  const world = await start(t)
  const ends: Array<(tokens: Tokens) => Promise<unknown>> = [
    async ({ refresh_token: token }) => await world.post('revoke', { token }),
    async () => await world.app.oidc.broker.revoke({ sub: 'alice' }),
    async () => await world.app.oidc.sessions.revoke({ sub: 'alice' }),
    async ({ access_token: token }) => await world.post('revoke', { token })
  ]
  for (const [index, end] of ends.entries()) {
    const tokens = await world.byDevice()
    await end(tokens)
    t.match((await refresh(world, tokens)).json(), { error: 'invalid_grant' }, String(end))
    await until(() => revokedAt(world).length > index)
    t.equal(revokedAt(world).length, index + 1, String(end))
  }
})

t.test('S39 however many grants there are, all of them end', async (t) => {
  const store = createMemoryStore()
  let times = 1
  const world = await start(t, {
    store: {
      ...store,
      list: async (tag, options) =>
        (await store.list(tag, options)).flatMap((entry) => Array.from({ length: times }, () => entry))
    }
  })
  const { access_token: token } = await world.byDevice()
  times = 130_000
  await world.app.oidc.sessions.revoke({ provider: 'default' })
  t.equal((await world.api(token)).statusCode, 401)
})

t.test('S61 a grant of a tenant that is not known here ends all the same', async (t) => {
  const acme = await startProvider({ deviceInterval: 1 })
  t.teardown(async () => await acme.close())
  const options: OidcOptions = {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    store: createMemoryStore(),
    session: { key: SESSION_KEY },
    broker: { audience: AUDIENCE },
    resolveProvider: () => ({
      name: 'acme',
      issuer: acme.issuer,
      clientId: 'web',
      clientSecret: acme.clients[0]?.client_secret as string
    })
  }
  const [here, elsewhere] = [programs(await buildApp(t, options), acme), programs(await buildApp(t, options), acme)]
  const { access_token: token } = await here.byDevice()
  t.equal(await elsewhere.app.oidc.broker.revoke({ sub: 'alice', provider: 'acme' }), 1)
  t.equal((await here.api(token)).statusCode, 401)
  t.equal(acme.count('revocation'), 0, 'who does not know the provider cannot tell it')
})

t.test('S61 a grant that is ended twice at once is revoked once', async (t) => {
  const world = await start(t)
  const sid = decodeJwt((await world.byDevice()).access_token)['sid'] as string
  t.same(await Promise.all([1, 2, 3].map(async () => await world.app.oidc.broker.revoke({ sid }))), [1, 0, 0])
  await until(() => world.provider.count('revocation') > 0)
  t.equal(world.provider.count('revocation'), 1)
})

t.test('S61 a grant that ends while it is refreshed leaves no token of the provider behind', async (t) => {
  const world = await start(t)
  const tokens = await world.byDevice()
  const gate = createGate()
  world.provider.fault({ on: 'token', times: 1, before: gate.pass })
  const refreshing = refresh(world, tokens)
  await gate.reached
  t.equal(await world.app.oidc.broker.revoke({ sub: 'alice' }), 1)
  gate.open()
  t.match((await refreshing).json(), { error: 'invalid_grant' })
  await until(() => revokedAt(world).length > 1)
  t.equal(new Set(revokedAt(world)).size, 2, 'the token that was known, and the one that came for it')
})

t.test('S59 S61 the tokens of another login are revoked', async (t) => {
  const world = await start(t)
  const tokens = await world.byDevice()
  world.provider.fault(faults['refresh-token-invalid-auth-time'])
  let fresh
  world.provider.fault({ on: 'token', tokenResponse: (answer) => { fresh = answer['refresh_token']; return answer } })
  t.match((await refresh(world, tokens)).json(), { error: 'invalid_grant' })
  await until(() => revokedAt(world).length > 0)
  t.same(revokedAt(world), [fresh])

  const refused = await start(t)
  const others = await refused.byDevice()
  refused.provider.fault(refusal('invalid_grant'))
  t.match((await refresh(refused, others)).json(), { error: 'invalid_grant' })
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.same(revokedAt(refused), [], 'what the provider refused is over there already')
})

t.test('S58 a refresh without an ID token asks UserInfo all the same', async (t) => {
  const world = await start(t, { userinfo: true })
  world.provider.fault({ on: 'token', idToken: ({ roles, email, ...claims }) => claims })
  const off = world.provider.fault({ on: 'userinfo', userinfo: (claims) => ({ ...claims, roles: ['admin'] }) })
  const first = await world.byDevice()
  t.equal((await world.api(first.access_token, '/admin')).statusCode, 200)
  off()
  world.provider.fault({
    on: 'userinfo',
    userinfo: ({ roles, ...claims }) => ({ ...claims, email: 'new@example.com' })
  })
  world.provider.fault({ on: 'token', tokenResponse: ({ id_token: _, ...answer }) => answer })
  const second: Tokens = (await refresh(world, first)).json()
  t.match(decodeJwt(second.access_token), { sub: 'alice', email: 'new@example.com' })
  t.equal((await world.api(second.access_token, '/admin')).statusCode, 403, 'a role that is not there any more')
})

t.test('S39 grants from before a second provider was there are found by the person', async (t) => {
  const [provider, other] = await Promise.all([startProvider({ deviceInterval: 1 }), startProvider()])
  t.teardown(async () => await Promise.all([provider.close(), other.close()]))
  const alone = { ...optionsFor(provider), store: createMemoryStore(), broker: { audience: AUDIENCE } }
  const { issuer, clientId, clientSecret, ...common } = alone
  const before = programs(await buildApp(t, alone), provider)
  const { access_token: token } = await before.byDevice()
  const after = programs(
    await buildApp(t, {
      ...common,
      providers: {
        default: { issuer, clientId, clientSecret },
        other: { issuer: other.issuer, clientId, clientSecret }
      }
    } as OidcOptions),
    provider
  )
  t.equal((await after.api(token)).statusCode, 200)
  t.equal(await after.app.oidc.broker.revoke({ sub: 'alice', provider: 'other' }), 0)
  t.equal(await after.app.oidc.broker.revoke({ sub: 'alice', provider: 'default' }), 1)
  t.equal((await after.api(token)).statusCode, 401)
})

t.test('R18 keys that cannot be read leave nothing half done', async (t) => {
  const world = await start(t)
  const { keys } = coreOf(world.app.oidc).broker as Broker
  const { current } = keys
  const away = async (): Promise<never> => { throw new OidcError('FST_OIDC_STORE_UNAVAILABLE') }
  keys.current = away
  t.match((await world.byDevice())['error'], 'temporarily_unavailable')
  t.equal(await world.app.oidc.broker.revoke({ sub: 'alice' }), 0, 'no grant that nobody has')
  keys.current = current

  const first = await world.byDevice()
  keys.current = away
  t.match((await refresh(world, first)).json(), { error: 'temporarily_unavailable' })
  keys.current = current
  const second: Tokens = (await refresh(world, first)).json()
  t.equal((await world.api(second.access_token)).statusCode, 200)
  t.equal((await refresh(world, second)).statusCode, 200, 'what the provider gave is not lost')
})

t.test('S61 R18 a grant that cannot be read is not ended halfway', async (t) => {
  const { store, fault } = faultyStore()
  const world = await start(t, { store })
  const { access_token: token } = await world.byDevice()
  fault.verbs = new Set(['get'])
  t.equal((await world.post('revoke', { token })).statusCode, 503)
  fault.verbs = null
  t.equal((await world.post('revoke', { token })).statusCode, 200)
  await until(() => revokedAt(world).length > 0)
  t.equal(revokedAt(world).length, 1)
})

t.test('a new signing key is published at once, whatever is being read meanwhile', async (t) => {
  const clock = stopClock(t)
  const memory = createMemoryStore()
  let gate: ReturnType<typeof createGate> | undefined
  const store: Store = {
    ...memory,
    async get (key) {
      const [value, held] = [await memory.get(key), gate]
      gate = undefined
      await held?.pass()
      return value
    }
  }
  const { app } = await start(t, { store })
  const published = async (): Promise<number> => (await app.inject('/auth/.well-known/jwks.json')).json().keys.length
  t.equal(await published(), 1)
  clock.advance(61)
  const { open, reached } = gate = createGate()
  const reading = published()
  await reached
  const rotating = app.oidc.broker.rotateKeys()
  await new Promise((resolve) => setTimeout(resolve, 50))
  open()
  t.equal(await reading, 1)
  await rotating
  t.equal(await published(), 2)
})

t.test('an empty scope is none', async (t) => {
  const world = await start(t)
  const first = await world.byDevice()
  t.equal((await refresh(world, first, { scope: '' })).json().scope, first['scope'])
})

t.test('S4 a native login takes no more than a cookie holds', async (t) => {
  const { app } = await start(t)
  const { challenge } = pkce()
  const query = new URLSearchParams({
    redirect_uri: REDIRECT_URI,
    code_challenge: challenge,
    code_challenge_method: 'S256',
    scope: 'a'.repeat(501)
  })
  t.equal((await app.inject(`/auth/login?${query.toString()}`)).statusCode, 400)
})

t.test('RFC 6749, section 5.2: a client that is not known is challenged', async (t) => {
  const { post } = await start(t, { broker: { resourceServers: { api: 'x'.repeat(32) } } })
  const answer = await post(
    'introspect',
    { token: 'x' },
    { authorization: `Basic ${Buffer.from('api:wrong').toString('base64')}` }
  )
  t.match(
    [answer.statusCode, answer.headers['www-authenticate'], answer.json()],
    [401, /^Basic realm=/, { error: 'invalid_client' }]
  )
})

t.test(
  'S58 a new refresh token of the provider outlives the access token beside it while the store is down',
  async (t) => {
    const clock = stopClock(t)
    const { store, fault } = faultyStore()
    const world = await start(t, { store })
    for (const lifetime of [{ expires_in: 60 }, {}, { expires_in: 7200 }]) {
      const off = world.provider.fault({
        on: 'token',
        tokenResponse: ({ expires_in: _, ...answer }) => ({ ...answer, ...lifetime })
      })
      const first = await world.byDevice()
      fault.verbs = new Set(['replace'])
      t.match((await refresh(world, first)).json(), { error: 'temporarily_unavailable' })
      clock.advance(600)
      fault.verbs = null
      const second = await refresh(world, first)
      t.equal(second.statusCode, 200)
      t.equal((await refresh(world, second.json())).statusCode, 200)
      off()
    }

    const first = await world.byDevice()
    world.provider.fault({
      on: 'token',
      tokenResponse: ({ refresh_token: _, ...answer }) => ({ ...answer, expires_in: 60 })
    })
    fault.verbs = new Set(['replace'])
    t.match((await refresh(world, first)).json(), { error: 'temporarily_unavailable' })
    fault.verbs = null
    const asked = world.provider.count('token')
    clock.advance(600)
    await refresh(world, first)
    t.equal(world.provider.count('token'), asked + 1, 'where there is no new one, the provider is asked again')
  }
)

t.test('S61 a logout that the store does not let end everything ends everything nevertheless', async (t) => {
  const { store, fault } = faultyStore()
  const world = await start(t, { store })
  const grants = [await world.byDevice(), await world.byDevice()] as const
  let takes = 0
  fault.verbs = new Set(['take'])
  fault.work = async () => { if (++takes > 1) throw new Error('connection refused') }
  await t.rejects(world.app.oidc.broker.revoke({ sub: 'alice' }), { code: 'FST_OIDC_STORE_UNAVAILABLE' })
  await until(() => revokedAt(world).length === 1)
  fault.verbs = null
  for (const tokens of grants) t.match((await refresh(world, tokens)).json(), { error: 'invalid_grant' })
  await until(() => revokedAt(world).length === 2)
  t.equal(new Set(revokedAt(world)).size, 2, 'the provider knows of both')
})

t.test('S61 a grant whose tokens nobody got is none', async (t) => {
  const { store, fault } = faultyStore()
  let grant: string | undefined
  const failing: Store = {
    ...store,
    async set (key, value, options) {
      await store.set(key, value, options)
      if (!key.includes('grant')) return
      grant = key
      fault.verbs = new Set(['get'])
    }
  }
  const world = await start(t, { store: failing })
  t.match(await world.byDevice(), { error: 'temporarily_unavailable' })
  fault.verbs = null
  t.equal(await store.get(grant as string), null)
  await until(() => revokedAt(world).length === 1)
})

t.test('S58 UserInfo is newer than the ID token of the login', async (t) => {
  const world = await start(t, { userinfo: true })
  world.provider.fault({
    on: 'token',
    times: 1,
    idToken: (claims) => ({ ...claims, roles: ['admin'], email: 'old@example.com' })
  })
  const first = await world.byDevice()
  world.provider.fault({ on: 'token', tokenResponse: ({ id_token: _, ...answer }) => answer })
  world.provider.fault({
    on: 'userinfo',
    userinfo: (claims) => ({ ...claims, iss: 'https://elsewhere.example', roles: ['reader'], email: 'new@example.com' })
  })
  const second = (await refresh(world, first)).json()
  t.match(decodeJwt(second.access_token), { sub: 'alice', roles: ['reader'], email: 'new@example.com' })
  t.equal((await world.api(second.access_token, '/admin')).statusCode, 403)
})
