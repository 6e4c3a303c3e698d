import { decodeJwt } from 'jose'
import t from 'tap'
import { client, faults } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor, stopClock } from '../support/app.ts'
import {
  AUDIENCE, DEVICE, REDIRECT_URI, pkce, clientsOf, refresh, refusal, revokedAt, start, followToNative
} from '../support/broker.ts'
import { faultyStore } from '../support/modes.ts'
import { startOidcProvider } from '../support/oidc-provider.ts'
import { until } from '../support/until.ts'
import { createUserAgent } from '../support/user-agent.ts'
import type { LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { Fault, Provider } from '../../lib/testing/index.ts'
import type { Store } from '../../types/store.ts'
import type { TestBroker, Tokens } from '../support/broker.ts'

t.test('S58 a refresh token rotates, and reuse ends the grant', async (t) => {
  const clock = stopClock(t)
  const { app, provider, token, api, byDevice } = await start(t)
  const first = await byDevice()
  provider.clearRequests()
  const refresh = async (refreshToken: string, more: Record<string, string> = {}): Promise<LightMyRequestResponse> =>
    await token({ grant_type: 'refresh_token', refresh_token: refreshToken, ...more })
  const answers = await Promise.all(
    Array.from({ length: 20 }, async () => (await refresh(first.refresh_token)).json() as Tokens)
  )
  t.equal(
    new Set(answers.map(({ refresh_token: next }) => next)).size,
    1,
    'twenty requests at once get the same refresh token'
  )
  t.equal(provider.count('token'), 1, 'the provider gets one request')
  const [second] = answers as [Tokens]
  t.not(second.refresh_token, first.refresh_token)
  t.equal(
    (await refresh(first.refresh_token)).json().refresh_token,
    second.refresh_token,
    'a repeated request gets the same answer'
  )
  t.match(
    (await refresh(second.refresh_token, { scope: 'openid email' })).json(),
    { scope: 'openid email' },
    'a refresh can narrow the scope'
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
  t.equal((await api(second.access_token)).statusCode, 401, 'RFC 9700: reuse ends the whole token family')
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

t.test('R10 S58 a used refresh token is not good for longer when the clock is set back', async (t) => {
  const clock = stopClock(t)
  const world = await start(t)
  for (const [back, status] of [[60, 200], [61, 400]] as const) {
    const first = await world.byDevice()
    const second: Tokens = (await refresh(world, first)).json()
    clock.advance(-back)
    t.equal((await refresh(world, first)).statusCode, status, `${back} s`)
    t.equal((await world.api(second.access_token)).statusCode, status === 200 ? 200 : 401, 'else its grant ends')
  }
})

t.test('R10 a grant begins after the newest logout, also when the clock was set back', async (t) => {
  const clock = stopClock(t)
  const world = await start(t)
  for (const end of [
    async () => await world.app.oidc.broker.revoke({ sub: 'alice' }),
    async () => await world.app.oidc.sessions.revoke({ sub: 'alice' })
  ]) {
    const before = await world.byDevice()
    clock.advance(-3600)
    await end()
    t.equal((await world.api(before.access_token)).statusCode, 401, 'the logout ends it')
    const after = await world.byDevice()
    t.equal((await refresh(world, after)).statusCode, 200, 'the user is not locked out')
  }
})

t.test('S58 a refresh follows the answer of the provider', async (t) => {
  const clock = stopClock(t)
  const { app, provider, token, byDevice, api } = await start(t, { roleClaims: ['roles'] })
  const first = await byDevice()
  t.equal((await api(first.access_token, '/admin')).statusCode, 403)
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, roles: ['admin'] }) })
  const second = (await token({ grant_type: 'refresh_token', refresh_token: first.refresh_token })).json() as Tokens
  t.equal((await api(second.access_token, '/admin')).statusCode, 200, 'the claims follow the provider')
  provider.clearFaults()

  const clearHang = provider.fault({ on: 'token', status: 503, body: '' })
  const away = await token({ grant_type: 'refresh_token', refresh_token: second.refresh_token })
  t.match(
    [away.statusCode, away.headers['retry-after'], away.json().error],
    [503, /\d/, 'temporarily_unavailable'],
    'R18 an unreachable provider ends no grant'
  )
  t.equal((await api(second.access_token)).statusCode, 200)
  clearHang()
  clock.advance(6)
  const third = (await token({ grant_type: 'refresh_token', refresh_token: second.refresh_token })).json() as Tokens
  t.ok(third.access_token)
  provider.fault(refusal('invalid_grant'))
  t.match((await token({ grant_type: 'refresh_token', refresh_token: third.refresh_token })).json(), {
    error: 'invalid_grant'
  })
  t.equal((await api(third.access_token)).statusCode, 401, 'the refusal of the provider ends the grant')
  provider.clearFaults()

  const sparse = await byDevice()
  provider.fault({ on: 'token', tokenResponse: (answer) => ({ ...answer, id_token: undefined, scope: undefined }) })
  t.equal(
    decodeJwt((await token({ grant_type: 'refresh_token', refresh_token: sparse.refresh_token })).json().access_token)
      .sub,
    'alice',
    'a refresh works without an ID token'
  )
  provider.clearFaults()

  const other = await byDevice('bob')
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, sub: 'mallory' }) })
  t.match(
    (await token({ grant_type: 'refresh_token', refresh_token: other.refresh_token })).json(),
    { error: 'invalid_grant' },
    'S59 a token of another user ends the grant'
  )
  t.equal((await api(other.access_token)).statusCode, 401)
  t.ok(app)
})

t.test('S58 a refresh drops the roles and scopes that the provider withdraws', async (t) => {
  const world = await start(t)
  const off = world.provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, roles: ['admin'] }) })
  const first = await world.byDevice()
  t.equal((await world.api(first.access_token, '/admin')).statusCode, 200)
  off()
  const withoutRoles = world.provider.fault({ on: 'token', idToken: ({ roles, ...claims }) => claims })
  const second: Tokens = (await refresh(world, first)).json()
  t.equal((await world.api(second.access_token, '/admin')).statusCode, 403, 'the withdrawn role is gone')
  withoutRoles()

  t.equal((await world.api(second.access_token, '/mail')).statusCode, 200)
  world.provider.fault({ on: 'token', times: 1, tokenResponse: (answer) => ({ ...answer, scope: 'openid profile' }) })
  t.match(
    (await refresh(world, second, { scope: 'email' })).json(),
    { error: 'invalid_scope' },
    'a withdrawn scope cannot be requested'
  )
  world.provider.fault({ on: 'token', times: 1, tokenResponse: (answer) => ({ ...answer, scope: 'openid profile' }) })
  const third: Tokens = (await refresh(world, second)).json()
  t.equal(third['scope'], 'openid profile')
  t.equal((await world.api(third.access_token, '/mail')).statusCode, 403)
})

t.test('a grant without a refresh token of the provider lasts as long as a session', async (t) => {
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

t.test('an empty scope parameter counts as absent', async (t) => {
  const world = await start(t)
  const first = await world.byDevice()
  t.equal((await refresh(world, first, { scope: '' })).json().scope, first['scope'])
})

t.test('S58 a refresh calls UserInfo where a login does, and an error loses no token', async (t) => {
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
  t.match((await refresh(world, first)).json(), { error: 'server_error' })
  isAway = false
  clock.advance(61)
  const second: Tokens = (await refresh(world, first)).json()
  t.match(decodeJwt(second.access_token), { sub: 'alice', email: 'alice@example.com' })
  world.provider.fault({ on: 'userinfo', times: 1, status: 503 })
  t.match((await refresh(world, second)).json(), { error: 'temporarily_unavailable' })
  clock.advance(61)
  t.equal((await refresh(world, second)).statusCode, 200)
})

t.test('S58 a refresh without an ID token calls UserInfo', async (t) => {
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
  t.equal((await world.api(second.access_token, '/admin')).statusCode, 403, 'the withdrawn role is gone')
})

t.test('S58 UserInfo overrides the ID token of the login', async (t) => {
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

t.test('S60 a refresh sends the resource of the device flow', async (t) => {
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
  const world = clientsOf(app, kit.provider)
  const device = (await world.post('device', {})).json()
  const user = createUserAgent()
  let page = await user.open(device.verification_uri_complete)
  for (let steps = 0; steps < 6 && !page.body.includes('The device is logged in'); steps++) {
    page = await user.submit(page, { login: 'alice', password: 'x' })
  }
  const tokens: Tokens = (await world.token({ grant_type: DEVICE, device_code: device.device_code })).json()
  const second = await refresh(world, tokens)
  t.equal(second.statusCode, 200, second.body)
  t.equal((await world.api(second.json().access_token)).statusCode, 200)
})

t.test('S59 an ID token of another login ends the grant at a refresh', async (t) => {
  const { app, provider, token, api } = await start(t)
  const { verifier, challenge } = pkce()
  for (const fault of ['refresh-token-invalid-nonce', 'refresh-token-invalid-auth-time'] as const) {
    const back = await followToNative(client({ app, baseUrl: BASE_URL }), {
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

t.test('S59 S61 a refresh that brings tokens of another login revokes them', async (t) => {
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
  const clear = refused.provider.fault(refusal('invalid_grant'))
  t.match((await refresh(refused, others)).json(), { error: 'invalid_grant' })
  clear()
  // The revocation of a later grant comes after any revocation of the first one.
  let later
  refused.provider.fault({ on: 'token', tokenResponse: (answer) => { later = answer['refresh_token']; return answer } })
  await refused.post('revoke', { token: (await refused.byDevice()).refresh_token })
  await until(() => revokedAt(refused).length > 0)
  t.same(revokedAt(refused), [later], 'a token that the provider refused is not revoked')
})

t.test('a refresh in which onIssue fails keeps the new tokens of the provider', async (t) => {
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
  t.match((await refresh()).json(), { error: 'server_error' })
  clock.advance(120)
  isAway = false
  t.equal((await refresh()).statusCode, 200)
  t.equal(
    provider.requests.filter(({ body }) => body['grant_type'] === 'refresh_token').length,
    2,
    'each refresh uses the newest refresh token of the provider'
  )
})

t.test('R18 a grant survives a store failure in the middle of a refresh', async (t) => {
  const { store, fault } = faultyStore()
  const world = await start(t, { store, timeout: 5 })
  const first = await world.byDevice()
  fault.verbs = new Set(['replace'])
  t.match((await refresh(world, first)).json(), { error: 'temporarily_unavailable' })
  fault.verbs = null
  const second: Tokens = (await refresh(world, first)).json()
  t.equal((await world.api(second.access_token)).statusCode, 200)
  t.equal(world.provider.requests.filter(({ body }) => body['grant_type'] === 'refresh_token').length, 1)
  t.equal((await refresh(world, second)).statusCode, 200, 'the new refresh token of the provider was kept')

  const without = await start(t, { store }, { refreshTokens: 'never' })
  const only = await without.byDevice()
  fault.verbs = new Set(['replace'])
  t.match((await refresh(without, only)).json(), { error: 'temporarily_unavailable' })
  fault.verbs = null
  t.equal((await refresh(without, only)).statusCode, 200)
})

/** Another process of the same application. */
async function another (t: Test, provider: Provider, store: Store): Promise<Pick<TestBroker, 'token' | 'api'>> {
  const broker = { audience: AUDIENCE, nativeClients: { clientIds: ['cli'] } }
  return clientsOf(await buildApp(t, optionsFor(provider, { store, timeout: 5, broker })), provider)
}

t.test('R27 the lease of a dead process delays no refresh while the token of the provider is good', async (t) => {
  const clock = stopClock(t)
  const { store, calls } = faultyStore()
  // The lease of a process that died while it asked the provider stays.
  const dying: Store = {
    ...store,
    replace: async (key, ...rest) => key.startsWith('refresh:') || (await store.replace(key, ...rest))
  }
  const world = await start(t, { store: dying, timeout: 5 })
  const { provider } = world
  const other = await another(t, provider, store)
  const dieWith = async (tokens: Tokens, next: Fault[] = []): Promise<Tokens> => {
    const off = provider.fault({ on: 'token', reset: true })
    t.match((await refresh(world, tokens)).json(), { error: 'temporarily_unavailable' })
    off()
    provider.clearRequests()
    const answer = await refresh(other, tokens)
    t.same([answer.statusCode, provider.count('token')], [200, 0])
    t.equal((await other.api(answer.json().access_token)).statusCode, 200)
    calls.length = 0
    provider.fault(...next)
    clock.advance(36) // the lease: six timeouts of 5 seconds, and 5
    return answer.json()
  }
  const tokens = await dieWith(await world.byDevice())
  await until(() => calls.filter((verb) => verb === 'replace').length === 2) // the result, and the grant
  t.equal(provider.count('token'), 1, 'the other process has taken over')
  clock.advance(61)
  t.equal((await refresh(world, tokens)).statusCode, 200, 'and has saved the new refresh token of the provider')

  const refused = await world.byDevice()
  const later = await dieWith(refused, [refusal('invalid_grant')])
  await until(async () => (await other.api(later.access_token)).statusCode === 401)
  t.match((await refresh(other, later)).json(), { error: 'invalid_grant' }, 'a refusal ends the grant')
})

t.test('R27 S58 tokens that a failing store did not take are written when it is back', async (t) => {
  const clock = stopClock(t)
  const { store, fault, calls } = faultyStore()
  const world = await start(t, { store, timeout: 5 })
  const { provider } = world
  const other = await another(t, provider, store)
  const failWith = async (tokens: Tokens): Promise<void> => {
    fault.verbs = new Set(['replace'])
    t.match((await refresh(world, tokens)).json(), { error: 'temporarily_unavailable' })
    calls.length = 0
  }
  const replaced = (count: number) => () => calls.filter((verb) => verb === 'replace').length === count

  const tokens = await world.byDevice()
  await failWith(tokens)
  const { work } = fault
  let count = 0
  // Another request has changed the grant just now, and the lease is over.
  fault.work = async () => count++ < 2 ? false : undefined
  await until(replaced(3))
  fault.work = work
  fault.verbs = null
  clock.advance(61)
  t.equal((await refresh(other, tokens)).statusCode, 200, 'another process has the new refresh token of the provider')

  const ended = await world.byDevice()
  await failWith(ended)
  fault.verbs = null
  await world.app.oidc.broker.revoke({ sub: 'alice' })
  await until(() => revokedAt(world).length === 3)
  t.equal(new Set(revokedAt(world)).size, 3, 'a grant that has ended gets no tokens: they are revoked')
})

t.test(
  'S58 a store failure keeps the new refresh token of the provider longer than its access token',
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
    t.equal(world.provider.count('token'), asked + 1, 'without a new refresh token the provider is called again')
  }
)

t.test('K7 a refreshed ID token: what ends a grant, and what does not', async (t) => {
  const world = await start(t)
  const { provider } = world
  const json = { 'content-type': 'application/json' }
  const ends: Fault[] = [
    { on: 'token', signWith: 'other-key' },
    { on: 'token', idToken: (claims) => ({ ...claims, aud: 'stranger' }) },
    { on: 'token', status: 400, headers: json, body: '{"error":"interaction_required"}' },
    { on: 'token', status: 200, headers: json, body: '{"error":"token_inactive"}' }
  ]
  for (const fault of ends) {
    const tokens = await world.byDevice()
    const clear = provider.fault(fault)
    t.match((await refresh(world, tokens)).json(), { error: 'invalid_grant' })
    t.equal((await world.api(tokens.access_token)).statusCode, 401)
    clear()
  }
  await until(() => revokedAt(world).length === 2)

  const stays: Array<[Fault, number]> = [
    [{ on: 'token', idToken: (claims) => ({ ...claims, exp: 1 }) }, 200],
    [{ on: 'token', idToken: (claims) => ({ ...claims, auth_time: Number(claims.iat) }) }, 200],
    [{ on: 'token', status: 400, headers: json, body: '{"error":"unauthorized_client"}' }, 503]
  ]
  for (const [fault, status] of stays) {
    const tokens = await world.byDevice()
    const clear = provider.fault(fault)
    t.equal((await refresh(world, tokens)).statusCode, status)
    t.equal((await world.api(tokens.access_token)).statusCode, 200)
    clear()
  }
  t.equal(revokedAt(world).length, 2)
})
