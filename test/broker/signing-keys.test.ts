import { randomBytes } from 'node:crypto'
import { decodeProtectedHeader } from 'jose'
import t from 'tap'
import { partsOf } from '../../lib/decorator.ts'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { createSealedStore } from '../../lib/store/sealed-store.ts'
import { startProvider } from '../../lib/testing/index.ts'
import { SESSION_KEY, buildApp, optionsFor, stopClock } from '../support/app.ts'
import { AUDIENCE, clientsOf, refresh, start } from '../support/broker.ts'
import { createGate } from '../support/gate.ts'
import { faultyStore } from '../support/modes.ts'
import { until } from '../support/until.ts'
import type { FastifyInstance } from 'fastify'
import type { Store } from '../../types/store.ts'
import type { Tokens, TestBroker } from '../support/broker.ts'

t.test('processes share one set of signing keys, and its rotation', async (t) => {
  const clock = stopClock(t)
  const store = createMemoryStore()
  const provider = await startProvider({ deviceInterval: 1 })
  t.teardown(async () => await provider.close())
  const options = optionsFor(provider, { store, broker: { audience: AUDIENCE, keyLifetime: 86_400 } })
  const all = await Promise.all(Array.from({ length: 4 }, async () => clientsOf(await buildApp(t, options), provider)))
  const kids = async ({ app }: { app: FastifyInstance }): Promise<string[]> =>
    (await app.inject('/auth/.well-known/jwks.json')).json().keys.map(({ kid }: { kid: string }) => kid)
  const lists = await Promise.all(all.map(kids))
  t.equal(new Set(lists.flat()).size, 1, 'V31 four processes that start at once share one key')
  const [one, two] = all as [typeof all[0] & object, typeof all[0] & object]
  const old = (await one.byDevice()).access_token
  t.equal((await two.api(old)).statusCode, 200)

  await one.app.oidc.broker.rotateKeys()
  const published = await kids(one)
  t.equal(published.length, 2, 'the new key is published')
  t.equal(decodeProtectedHeader((await one.byDevice()).access_token).kid, published[0], 'the new key does not sign yet')
  clock.advance(601)
  const fresh = (await two.byDevice()).access_token
  t.equal(decodeProtectedHeader(fresh).kid, published[1], 'the new key signs in all processes')
  t.same(
    [(await one.api(fresh)).statusCode, (await one.api(old)).statusCode],
    [200, 200],
    'tokens of both keys are accepted'
  )
  clock.advance(1600)
  await one.app.oidc.broker.rotateKeys()
  t.equal(
    (await kids(one)).includes(published[0] as string),
    false,
    'the old key is removed after its last token expired'
  )
  clock.advance(90_000)
  const last = await kids(two)
  clock.advance(61)
  t.equal((await kids(two)).length, last.length, 'the scheduled rotation adds one key')
  t.notSame(last, published)
  const changed = clientsOf(
    await buildApp(t, { ...options, broker: { audience: AUDIENCE, signingAlg: 'EdDSA' } }),
    provider
  )
  t.ok(
    (await changed.app.inject('/auth/.well-known/jwks.json'))
      .json()
      .keys.some(({ alg }: { alg: string }) => alg === 'EdDSA'),
    'another algorithm starts with a new key'
  )
})

t.test('S58 grants and signing keys survive the rotation of the session key', async (t) => {
  const store = createMemoryStore()
  const provider = await startProvider({ deviceInterval: 1 })
  t.teardown(async () => await provider.close())
  const start = async (...keys: string[]): Promise<ReturnType<typeof clientsOf>> =>
    clientsOf(
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

t.test('a new signing key is published at once, also while the old key set is being read', async (t) => {
  const clock = stopClock(t)
  const memory = createMemoryStore()
  let gate: ReturnType<typeof createGate> | undefined
  let isWritten = false
  const store: Store = {
    ...memory,
    async get (key) {
      const [value, held] = [await memory.get(key), gate]
      gate = undefined
      await held?.pass()
      return value
    },
    async replace (...parameters) {
      const isReplaced = await memory.replace(...parameters)
      isWritten = true
      return isReplaced
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
  await until(() => isWritten)
  open()
  t.equal(await reading, 1)
  await rotating
  t.equal(await published(), 2)
})

t.test('two processes with different signing algorithms accept the tokens of each other', async (t) => {
  const clock = stopClock(t)
  const store = createMemoryStore()
  const provider = await startProvider({ deviceInterval: 1 })
  t.teardown(async () => await provider.close())
  const make = async (signingAlg: 'ES256' | 'EdDSA'): Promise<Omit<TestBroker, 'provider' | 'browser'>> =>
    clientsOf(
      await buildApp(t, optionsFor(provider, { store, broker: { audience: AUDIENCE, signingAlg, keyLifetime: 7200 } })),
      provider
    )
  const algs = async ({ app }: Pick<TestBroker, 'app'>): Promise<string[]> =>
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
  // Only the new process goes on: the old key is removed after its lifetime.
  for (let hours = 0; hours < 4; hours++) {
    clock.advance(3600)
    await algs(after)
  }
  t.notOk((await algs(after)).includes('ES256'))
})

t.test('a key signs also when the clock was set back', async (t) => {
  const clock = stopClock(t)
  const world = await start(t)
  await world.app.ready()
  clock.advance(-30)
  t.equal(
    (await world.api((await world.byDevice()).access_token)).statusCode,
    200,
    'the key signs although its start is in the future'
  )
})

t.test('the signing keys are written again when the store has lost them', async (t) => {
  const clock = stopClock(t)
  const store = createMemoryStore({ max: 20 })
  const world = await start(t, { store })
  let last = await world.byDevice()
  for (let count = 0; count < 19; count++) last = await world.byDevice()
  clock.advance(61)
  t.equal((await world.api(last.access_token)).statusCode, 200)
})

t.test('rotateKeys replaces signing keys that no session key opens any more', async (t) => {
  const { store, fault } = faultyStore()
  const provider = await startProvider({ deviceInterval: 1 })
  t.teardown(async () => await provider.close())
  const make = async (key: string): Promise<Omit<TestBroker, 'provider' | 'browser'>> =>
    clientsOf(
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
    'an unreachable store replaces no keys'
  )
  fault.verbs = null
  await after.app.oidc.broker.rotateKeys()
  t.equal(await jwks(), 200, 'rotateKeys creates new keys')
  t.equal((await after.api((await after.byDevice()).access_token)).statusCode, 200)
  t.equal((await after.api(token)).statusCode, 401)
})

t.test('R18 without the signing keys the answer is 503, until the store is back', async (t) => {
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

t.test('R18 a failure to read the signing keys leaves no grant and loses no token', async (t) => {
  const clock = stopClock(t)
  const memory = createMemoryStore()
  let isAway = false
  const get: Store['get'] = async (key) => {
    if (isAway && key.startsWith('signing-keys:')) throw new Error('connection refused')
    return await memory.get(key)
  }
  const world = await start(t, { store: { ...memory, get } })
  // The process uses the keys that it knows for an hour. For a minute it shares the result of a refresh.
  const lose = (): void => { isAway = true; clock.advance(3601) }
  const find = (): void => { isAway = false; clock.advance(61) }
  await world.app.inject('/auth/.well-known/jwks.json')
  lose()
  t.match((await world.byDevice())['error'], 'temporarily_unavailable')
  t.equal(await world.app.oidc.broker.revoke({ sub: 'alice' }), 0, 'no grant without tokens is left')
  find()

  const first = await world.byDevice()
  lose()
  t.match((await refresh(world, first)).json(), { error: 'temporarily_unavailable' })
  find()
  const second: Tokens = (await refresh(world, first)).json()
  t.equal((await world.api(second.access_token)).statusCode, 200)
  t.equal((await refresh(world, second)).statusCode, 200, 'the new tokens of the provider are kept')
})

t.test('K16 the key of a retired algorithm goes when its last token has expired', async (t) => {
  const clock = stopClock(t)
  const store = createMemoryStore()
  const provider = await startProvider({ deviceInterval: 1 })
  t.teardown(async () => await provider.close())
  const make = async (signingAlg: 'ES256' | 'RS256'): Promise<Omit<TestBroker, 'provider' | 'browser'>> =>
    clientsOf(await buildApp(t, optionsFor(provider, { store, broker: { audience: AUDIENCE, signingAlg } })), provider)
  const algs = async ({ app }: Pick<TestBroker, 'app'>): Promise<string[]> =>
    (await app.inject('/auth/.well-known/jwks.json')).json().keys.map(({ alg }: { alg: string }) => alg)
  const former = await make('ES256')
  for (let minutes = 0; minutes < 60; minutes++) {
    clock.advance(61)
    t.same(await algs(former), ['ES256'])
  }
  const { access_token: token } = await former.byDevice()
  await former.app.close()
  const next = await make('RS256')
  t.same(await algs(next), ['ES256', 'RS256'])
  clock.advance(890)
  t.same(await algs(next), ['ES256', 'RS256'])
  t.equal((await next.api(token)).statusCode, 200)
  clock.advance(301)
  t.same(await algs(next), ['RS256'], 'not after 90 days')
  t.equal((await next.api((await next.byDevice()).access_token)).statusCode, 200)
  const back = await make('ES256')
  t.same(await algs(back), ['RS256', 'ES256'], 'it can come back')
})

t.test('K16 keys of version 0.1.0 do not say how long they are needed', async (t) => {
  const clock = stopClock(t)
  const memory = createMemoryStore()
  const kit = await start(t, { store: memory })
  await kit.byDevice()
  // As an earlier version wrote them: without the member, under the same name.
  const { settings, sealer } = partsOf(kit.app.oidc)
  const { baseUrl, prefix, session: { formerName } } = settings
  const sealedStore = createSealedStore(memory, sealer, [baseUrl, prefix, formerName])
  const entry = await sealedStore.get<Array<Record<string, unknown>>>(['signing-keys'])
  const former = entry?.content.map(({ neededUntil: _, ...key }) => key)
  await sealedStore.set(['signing-keys'], former, Math.floor(Date.now() / 1000) + 1e6)
  t.equal(former?.length, 1)
  const algs = async (app: FastifyInstance): Promise<string[]> =>
    (await app.inject('/auth/.well-known/jwks.json')).json().keys.map(({ alg }: { alg: string }) => alg)
  const options = optionsFor(kit.provider, { store: memory, broker: { audience: AUDIENCE, signingAlg: 'RS256' } })
  const app = await buildApp(t, options)
  t.same(await algs(app), ['ES256', 'RS256'])
  clock.advance(86_300)
  t.same(await algs(app), ['ES256', 'RS256'], 'a process of that version may sign with it')
  clock.advance(200)
  t.same(await algs(app), ['RS256'])
})

t.test('how long the key has signed that signs now', async (t) => {
  const clock = stopClock(t)
  const { app } = await start(t)
  const { broker } = partsOf(app.oidc)
  t.equal(broker?.keys.age(), undefined, 'not known yet')
  await app.ready()
  clock.advance(100)
  t.equal(broker?.keys.age(), 100)
})
