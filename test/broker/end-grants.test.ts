import { decodeJwt } from 'jose'
import t from 'tap'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor, startApp } from '../support/app.ts'
import { AUDIENCE, DEVICE, clientsOf, refresh, revokedAt, start } from '../support/broker.ts'
import { createGate } from '../support/gate.ts'
import { faultyStore } from '../support/modes.ts'
import { until } from '../support/until.ts'
import type { OidcOptions } from '../../index.ts'
import type { Store } from '../../types/store.ts'
import type { Tokens } from '../support/broker.ts'

t.test('app.oidc.broker.revoke and back-channel logouts end grants', async (t) => {
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
  t.equal((await api((await byDevice()).access_token)).statusCode, 200, 'tokens from after the call stay valid')
  for (const filter of [{}, { sub: undefined }, { sub: '' }, { sub: 'a', sid: 'b' }, { name: 'x' }]) {
    await t.rejects(app.oidc.broker.revoke(filter as never), { code: 'FST_OIDC_OPTION' })
  }

  t.equal((await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, { app, sub: 'bob' })).status, 200)
  t.equal((await api(bob.access_token)).statusCode, 401, 'a logout token ends grants')
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
  t.equal((await api(early.access_token)).statusCode, 200, 'a delayed logout token does not end later logins')
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
    'a sid ends one login only'
  )
  const alice = await byDevice()
  await app.oidc.sessions.revoke({ provider: 'default' })
  t.equal((await api(alice.access_token)).statusCode, 401)

  const { app: plain } = await startApp(t)
  await t.rejects(plain.oidc.broker.revoke({ sub: 'x' }), { code: 'FST_OIDC_OPTION' })
  await t.rejects(plain.oidc.broker.rotateKeys(), { code: 'FST_OIDC_OPTION' })
})

t.test('R28 a logout during the issuance of a token ends its grant', async (t) => {
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
      error_description: 'The user was logged out.'
    })
  }
})

t.test('S61 a grant is removed when the issuance of its tokens fails', async (t) => {
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

t.test('S61 the end of a grant revokes the refresh token at the provider', async (t) => {
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

t.test('S61 two requests that end one grant at once revoke its token once', async (t) => {
  const world = await start(t)
  const sid = decodeJwt((await world.byDevice()).access_token)['sid'] as string
  t.same(await Promise.all([1, 2, 3].map(async () => await world.app.oidc.broker.revoke({ sid }))), [1, 0, 0])
  await until(() => world.provider.count('revocation') > 0)
  t.equal(world.provider.count('revocation'), 1)
})

t.test('S61 the end of a grant during a refresh revokes the new token as well', async (t) => {
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
  t.equal(new Set(revokedAt(world)).size, 2, 'both the old and the new token are revoked')
})

t.test('S61 a process ends the grant of a tenant that it does not know', async (t) => {
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
  const [here, elsewhere] = [clientsOf(await buildApp(t, options), acme), clientsOf(await buildApp(t, options), acme)]
  const { access_token: token } = await here.byDevice()
  t.equal(await elsewhere.app.oidc.broker.revoke({ sub: 'alice', provider: 'acme' }), 1)
  t.equal((await here.api(token)).statusCode, 401)
  t.equal(acme.count('revocation'), 0, 'without the options of the tenant the provider cannot be called')
})

t.test('S39 revoke finds grants that are older than a second provider', async (t) => {
  const [provider, other] = await Promise.all([startProvider({ deviceInterval: 1 }), startProvider()])
  t.teardown(async () => await Promise.all([provider.close(), other.close()]))
  const alone = { ...optionsFor(provider), store: createMemoryStore(), broker: { audience: AUDIENCE } }
  const { issuer, clientId, clientSecret, ...common } = alone
  const before = clientsOf(await buildApp(t, alone), provider)
  const { access_token: token } = await before.byDevice()
  const after = clientsOf(
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

t.test('S39 a logout ends any number of grants', async (t) => {
  const store = createMemoryStore()
  let times = 1
  const list: Store['list'] = async (tag, options) =>
    (await store.list(tag, options)).flatMap((entry) => Array.from({ length: times }, () => entry))
  // Short records, without tokens of the provider, take less time to decrypt.
  const world = await start(t, { store: { ...store, list } }, { refreshTokens: 'never' })
  const { access_token: token } = await world.byDevice()
  times = 130_000
  await world.app.oidc.sessions.revoke({ provider: 'default' })
  t.equal((await world.api(token)).statusCode, 401)
})

t.test('S61 a logout that a store failure interrupts ends all grants nevertheless', async (t) => {
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
  t.equal(new Set(revokedAt(world)).size, 2, 'both tokens are revoked at the provider')
})
