import t from 'tap'
import { createGate } from './support/gate.ts'
import { faultyStore } from './support/modes.ts'
import { startApp } from './support/app.ts'
import { startedClock } from './support/started.ts'
import type { Test } from 'tap'

const OK = { default: { status: 'ok' } }

async function start (t: Test) {
  const clock = startedClock(t)
  const { store, fault, calls } = faultyStore()
  const { app, provider } = await startApp(t, { store, timeout: 100 })
  return { app, provider, clock, fault, calls }
}

t.test('R16 a store that is gone makes the process unready, and one that is full does not', async (t) => {
  const { app, clock, fault } = await start(t)
  t.same(await app.oidc.health(), { status: 'ok', providers: OK, store: { status: 'ok' } })

  fault.verbs = new Set(['has'])
  clock.advance(1)
  t.same(await app.oidc.health(), { status: 'unavailable', providers: OK, store: { status: 'unavailable' } })

  fault.verbs = new Set(['set'])
  clock.advance(1)
  t.same(await app.oidc.health(), { status: 'degraded', providers: OK, store: { status: 'readonly' } })

  fault.verbs = null
  clock.advance(1)
  t.same(await app.oidc.health(), { status: 'ok', providers: OK, store: { status: 'ok' } })
})

t.test('the health of an application without a store names none', async (t) => {
  const { app, provider } = await startApp(t)
  provider.fault({ on: 'metadata', status: 503 })
  t.same(await app.oidc.health(), {
    status: 'degraded',
    providers: { default: { status: 'unavailable', code: 'FST_OIDC_PROVIDER_UNAVAILABLE' } }
  })
})

t.test('a store and a provider that never answer delay the health by two seconds, not by their timeouts', async (t) => {
  const { app, provider, fault } = await start(t)
  const gate = createGate()
  t.teardown(() => gate.open())
  fault.verbs = new Set(['all'])
  fault.work = async () => { await gate.pass() }
  provider.fault({ on: 'metadata', hang: true })
  const startedAt = performance.now()
  t.same(await app.oidc.health(), {
    status: 'unavailable',
    providers: { default: { status: 'unavailable', code: 'FST_OIDC_PROVIDER_UNAVAILABLE' } },
    store: { status: 'unavailable' }
  })
  // Far below the timeout of the provider, also where other work shares the cores.
  t.ok(performance.now() - startedAt < 100_000)
})

t.test('a hundred probes of one second ask once, and a clock that is set back asks again', async (t) => {
  const { app, provider, clock, calls } = await start(t)
  const answers = await Promise.all(Array.from({ length: 100 }, async () => await app.oidc.health()))
  t.equal(new Set(answers).size, 1)
  t.same([calls, provider.count('metadata'), provider.count('jwks')], [['has', 'set'], 1, 1])
  clock.advance(1)
  await app.oidc.health()
  t.equal(calls.length, 4)
  clock.advance(-3600)
  await app.oidc.health()
  t.equal(calls.length, 6)
})
