import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { OidcError } from '../../lib/errors.ts'
import { atMost, LateError, limited } from '../../lib/util/at-most.ts'
import { REFUSED, createBoundedMap } from '../../lib/util/bounded-map.ts'
import { createCached } from '../../lib/util/cached.ts'
import { createLimit } from '../../lib/util/limit.ts'
import { elapsed } from '../../lib/util/time.ts'
import { createAdmission } from '../../lib/util/token-cache.ts'
import { createTurns } from '../../lib/util/turns.ts'
import { startClock } from '../../lib/testing/index.ts'
import { stopClock } from '../support/app.ts'
import { until } from '../support/until.ts'
import type { Cached, Permits } from '../../lib/util/cached.ts'

t.test('R32 a bounded map forgets expired entries', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const map = createBoundedMap<number>(1000)
  const soon = Math.floor(Date.now() / 1000) + 60
  for (let index = 0; index < 500; index++) map.set(`key${index}`, index, soon)
  clock.advance(61)
  t.equal(map.get('key0'), undefined)
  map.set('new', 1)
  t.equal(map.size, 1)
})

t.test('R32 a bounded map holds at most its limit, and drops the oldest', async (t) => {
  const clock = stopClock(t)
  const map = createBoundedMap<number>(3)
  const now = Math.floor(Date.now() / 1000)
  map.set('a', 1)
  map.set('b', 2, now + 10)
  map.set('c', 3)
  t.same([map.get('a'), map.get('b'), map.get('c'), map.size], [1, 2, 3, 3])
  map.set('a', 10)
  map.set('d', 4)
  t.same(
    [map.get('a'), map.get('b'), map.get('c'), map.get('d'), map.size],
    [10, undefined, 3, 4, 3],
    'the one that was set longest ago goes'
  )
  map.set('e', 5, now + 10)
  clock.advance(9)
  t.equal(map.get('e'), 5)
  clock.advance(1)
  t.equal(map.get('e'), undefined, 'at its time it is over')
  map.delete('a')
  map.delete('nothing')
  t.equal(map.get('a'), undefined)
  map.set('over', 1, now)
  t.equal(map.get('over'), undefined)
  map.set('later', 1, now + 20)
  clock.advance(20)
  const size = map.size
  map.set('last', 1)
  t.ok(map.size <= size, 'what is over does not stay until there is no room')
  const single = createBoundedMap<number>(3)
  single.set('over', 1, now)
  t.equal(single.size, 0)
  for (const name of ['__proto__', 'constructor', 'toString']) t.equal(map.get(name), undefined)
  for (let count = 0; count < 10_000; count++) map.set(`key-${count}`, count)
  t.equal(map.size, 3)
  t.equal(map.get('key-9999'), 9999)
})

t.test('R10 the time that has passed never goes back, and does not stay ahead', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const moved = (seconds: number): number => {
    const before = elapsed()
    clock.advance(seconds)
    return Math.floor((elapsed() - before) / 1000)
  }
  t.same([moved(0), moved(100), moved(-3600), moved(30), moved(-30), moved(0)], [0, 100, 0, 30, 0, 0])
  clock.set('2100-01-01')
  const before = elapsed()
  clock.restore()
  t.ok(elapsed() - before < 1000, 'the way back from the future does not count')

  const { now } = performance
  t.teardown(() => { performance.now = now })
  performance.now = () => now.call(performance) + 100_000
  const idle = startClock()
  t.teardown(() => idle.restore())
  idle.advance(5)
  t.equal(Math.floor((elapsed() - before) / 10_000), 10, 'a clock that was set back before the next look at it')
})

t.test('R10 a clock that is set back does not prolong what counts for a while', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const map = createBoundedMap<number>(3)
  map.set('answer', 1, Math.floor(Date.now() / 1000) + 60)
  clock.advance(-3600)
  t.equal(map.get('answer'), 1)
  clock.advance(59)
  t.equal(map.get('answer'), 1)
  clock.advance(2)
  t.equal(map.get('answer'), undefined)
})

t.test('R10 what is refused for a while is not forgotten when the clock jumps', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const map = createBoundedMap<number>(10, REFUSED)
  const expiresAt = Math.floor(Date.now() / 1000) + 60
  map.set('used', 1, expiresAt)
  clock.advance(86_400)
  t.equal(map.get('used'), undefined, 'it is over by the clock')
  map.set('other', 1, expiresAt + 86_400)
  clock.advance(-86_400)
  t.equal(map.get('used'), 1)
  clock.advance(-3600)
  t.equal(map.get('used'), 1, 'it lasts as long as it could be accepted')

  const { now } = performance
  t.teardown(() => { performance.now = now })
  performance.now = () => now.call(performance) + 70_000
  map.set('next', 1, expiresAt)
  t.equal(map.get('used'), 1, 'also longer than it was to last')
  clock.advance(3660)
  map.set('last', 1, expiresAt + 7200)
  t.equal(map.size, 3, 'it goes when real time has passed as well')
})

t.test('a full cache admits a value when it comes again', async (t) => {
  const random = (...words: number[]): string => Buffer.from(new Int32Array(words).buffer).toString('base64')
  const isWorthIt = createAdmission(100)
  const [one, two] = [random(8192 + 5, 7, 1), random(2 * 8192 + 5, 9, 1)]
  t.same(
    [one, two, one, two].map((each) => isWorthIt(each, 99)),
    [false, false, true, true],
    'two that come in turn, and share a place in its memory, are both known again'
  )
  t.equal(isWorthIt(random(3, 9, 1), 99), false)
  const admitted = Array.from({ length: 4000 }, () => isWorthIt(one, 100)).filter(Boolean).length
  t.ok(admitted > 700 && admitted < 1300, `a quarter gets into a full cache: ${admitted} of 4000`)
})

interface Source {
  cached: Cached<{ number: number }>
  loads: () => number
  /** Ends the load that runs. */
  succeed: () => void
  fail: (error?: Error) => void
}

const late = new Error('late')

/** A value of ten minutes, from a source that the test controls. */
function startSource (patience = 0.01): Source {
  let loads = 0
  let end = { resolve: (_value: { number: number }): void => {}, reject: (_error: Error): void => {} }
  const load = async (): Promise<{ number: number }> => {
    loads += 1
    return await new Promise((resolve, reject) => { end = { resolve, reject } })
  }
  const reload = { answersFor: 600_000, patience, late: () => late }
  return {
    cached: createCached(load, { maxAge: 600_000, maxStale: 86_400_000, retryAfter: 1000, reload }),
    loads: () => loads,
    succeed: () => end.resolve({ number: loads }),
    fail: (error = new Error('failed')) => end.reject(error)
  }
}

/** The same, with a first value. */
async function startLoaded (patience?: number): Promise<Source> {
  const source = startSource(patience)
  const first = source.cached.get()
  source.succeed()
  await first
  return source
}

t.test('R31 a value that is known answers at once while it is loaded again', async (t) => {
  const clock = stopClock(t)
  const { cached, loads, succeed } = await startLoaded()
  clock.advance(599)
  t.same([await cached.get(), loads()], [{ number: 1 }, 1])
  clock.advance(1)
  t.equal(cached.fresh(), undefined)
  t.same([await cached.get(), await cached.get(), loads()], [{ number: 1 }, { number: 1 }, 2])
  succeed()
  await until(() => cached.fresh() !== undefined)
  t.same([await cached.get(), cached.last(), loads()], [{ number: 2 }, { number: 2 }, 2])
})

t.test('S53 a value of long ago waits for the new one, for a limited time', async (t) => {
  const clock = stopClock(t)
  const { cached, loads, succeed, fail } = await startLoaded()
  clock.advance(1200)
  const morning = cached.get()
  succeed()
  t.same(await morning, { number: 2 }, 'the source answers in time')
  clock.advance(1200)
  await t.rejects(cached.get(), late)
  await t.rejects(cached.get(), late, 'nothing has failed so far')
  t.equal(loads(), 3)
  fail()
  await until(async () => await cached.get().then(() => true, () => false))
  t.same([await cached.get(), loads()], [{ number: 2 }, 3], 'now it answers, and the source is left alone')
  clock.advance(1)
  t.same([await cached.get(), await cached.get()], [{ number: 2 }, { number: 2 }], 'also during the next load')
  t.equal(loads(), 4)
  fail()
  await until(async () => await cached.latest().then(() => true, () => false))
  clock.advance(3600)
  t.same([await cached.get(), loads()], [{ number: 2 }, 5], 'a failure of long ago: it waits, and then answers')
  fail()
  clock.advance(86_400)
  await t.rejects(cached.get(), late, 'no longer than a day')
})

t.test('R31 the first value is waited for, and after a failure for a limited time', async (t) => {
  const clock = stopClock(t)
  const { cached, loads, succeed, fail } = startSource(0.001)
  const first = cached.get()
  let isOver = false
  first.finally(() => { isOver = true }).catch(() => {})
  await delay(10)
  t.notOk(isOver)
  fail()
  await t.rejects(first, /failed/)
  await t.rejects(cached.get(), /failed/, 'it rests')
  clock.advance(1)
  await t.rejects(cached.get(), late)
  t.equal(loads(), 2)
  succeed()
  await until(() => cached.fresh() !== undefined)
  t.same(await cached.get(), { number: 2 })
})

t.test('R31 the latest value is waited for to the end', async (t) => {
  const clock = stopClock(t)
  const { cached, succeed, fail } = await startLoaded()
  t.same(await cached.latest(), { number: 1 })
  clock.advance(601)
  const latest = cached.latest()
  succeed()
  t.same(await latest, { number: 2 })
  clock.advance(601)
  const failing = cached.latest()
  fail()
  t.same(await failing, { number: 2 })
})

t.test('a call that did not end does not count as a failure of the source', async (t) => {
  stopClock(t)
  const { cached, loads, succeed, fail } = startSource()
  const first = cached.get()
  fail(new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { kind: 'late' }))
  await t.rejects(first, { code: 'FST_OIDC_PROVIDER_UNAVAILABLE', kind: 'late' })
  const second = cached.get()
  succeed()
  t.same([await second, loads()], [{ number: 2 }, 2], 'the next one is made at once')
})

t.test('R31 a cached value is loaded once for all who wait, also a newer one', async (t) => {
  const { cached, loads, succeed, fail } = startSource()
  const first = cached.get()
  const joined = cached.get()
  succeed()
  const value = await first
  t.equal(await joined, value)

  const waitFor: Permits['waitFor'] = async (load) => await load
  const always: Permits = { take: () => true, next: async () => { throw new Error('asked') }, waitFor }
  const never: Permits = { take: () => false, next: async () => { throw new Error('not now') }, waitFor }
  const hasty: Permits = { take: () => false, next: async () => false, waitFor }
  const since = cached.begun()
  const newer = Promise.all([cached.newerThan(value, since, always), cached.newerThan(value, since, never)])
  succeed()
  const [a, b] = await newer
  t.equal(a, b, 'a caller that may not load gets the value that is loading')
  t.equal(await cached.newerThan(value, since, never), a, 'a newer one that is there is taken')
  t.equal(await cached.newerThan(a, since, never), a, 'it was loaded since then')
  await t.rejects(cached.newerThan(a, cached.begun(), never), /not now/)
  t.equal(await cached.newerThan(a, cached.begun(), hasty), a)
  t.equal(loads(), 2)

  const two = [cached.newerThan(a, cached.begun(), always), cached.newerThan(a, cached.begun(), always)]
  succeed()
  const [current, same] = await Promise.all(two)
  t.same([current, same], [{ number: 3 }, { number: 3 }])

  let isAllowed = (): void => {}
  const waiting: Permits = {
    take: () => false,
    next: async () => await new Promise((resolve) => { isAllowed = () => resolve(true) }),
    waitFor: async (load) => await load.catch(() => { throw new Error('waited for') })
  }
  const allowed = cached.newerThan(cached.last() as { number: number }, cached.begun(), waiting)
  isAllowed()
  await until(() => loads() === 4)
  fail()
  await t.rejects(allowed, /waited for/)
  const again = cached.newerThan(cached.last() as { number: number }, cached.begun(), waiting)
  await t.rejects(again, /failed/, 'no caller waits for a source that fails')
})

t.test('R3 a source that has answered 429 is not asked for a newer value', async (t) => {
  const clock = stopClock(t)
  const { cached, loads, succeed, fail } = await startLoaded()
  const always: Permits = { take: () => true, next: async () => true, waitFor: async (load) => await load }
  const newer = async (): Promise<unknown> =>
    await cached.newerThan(cached.last() as { number: number }, cached.begun(), always)
  for (const kind of ['busy', undefined] as const) {
    const failing = newer()
    fail(new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { kind, retryAfter: 30 }))
    await t.rejects(failing, { code: 'FST_OIDC_PROVIDER_UNAVAILABLE', kind })
    if (kind === undefined) break
    clock.advance(29)
    await t.rejects(newer(), { code: 'FST_OIDC_PROVIDER_UNAVAILABLE', kind })
    t.equal(loads(), 2)
    clock.advance(1)
  }
  t.equal(loads(), 3)
  const next = newer()
  succeed()
  t.same(await next, { number: 4 }, 'after other failures it is')
})

t.test('work is waited for at most so long', async (t) => {
  t.equal(await atMost(1, () => 1, () => late), 1)
  t.equal(await atMost(1, async () => 2, () => late), 2)
  await t.rejects(atMost(1, () => { throw new Error('at once') }, () => late), /at once/)
  await t.rejects(atMost(1, async () => { throw new Error('failed') }, () => late), /failed/)
  await t.rejects(atMost(0.001, async () => await new Promise(() => {}), () => late), late)
  await t.rejects(atMost(0.001, async () => {
    await delay(5)
    throw new Error('too late to count')
  }, () => late), late)
  await delay(10)

  const call = limited((value: unknown) => value, 0.001, 'someTimeout')
  t.same([call(1), call(null), call(undefined)], [1, null, undefined], 'what is no promise is returned at once')
  t.equal(await call(Promise.resolve(2)), 2)
  await t.rejects(call(new Promise(() => {})) as Promise<unknown>, {
    message: 'it has not ended within 0.001 s, as "someTimeout" demands', statusCode: 503
  })
  const lateOne = await (call({ then: () => {} }) as Promise<unknown>).catch((error: unknown) => error)
  t.type(lateOne, LateError, 'also what only looks like a promise')
})

t.test('R9 a limit of so many at once, and then so many per second', async (t) => {
  const clock = stopClock(t)
  const limit = createLimit({ burst: 3, perSecond: 2 })
  const take = (count: number): number => Array.from({ length: count }, limit.take).filter(Boolean).length
  t.same([take(10), limit.wait()], [3, 0.5])
  clock.advance(0.25)
  t.same([take(10), limit.wait()], [0, 0.25])
  clock.advance(1)
  t.same([take(10), limit.wait()], [2, 0.25])
  limit.spend()
  t.equal(limit.wait(), 0.75)
  clock.advance(-3600)
  t.same([take(10), limit.wait()], [0, 0.75], 'R10 a clock that is set back')
  clock.advance(7200)
  t.equal(limit.wait(), 0)
  t.equal(take(10), 3)
})

t.test('R32 so many calls at the same time, and so many that wait', async (t) => {
  const refused = new Error('refused')
  const inTurn = createTurns({ running: 2, waiting: 3, patience: 60, refuse: () => refused })
  const ends: Array<() => void> = []
  const run = async (name: number): Promise<number> => await inTurn(async () => {
    await new Promise<void>((resolve) => ends.push(resolve))
    return name
  })
  const first = [run(1), run(2)]
  const waiting = [run(3), run(4), run(5)]
  await t.rejects(run(6), refused, 'no more wait')
  t.equal(ends.length, 2)
  for (const [index, name] of [1, 2, 3, 4, 5].entries()) {
    await until(() => ends.length > index)
    ends[index]?.()
    t.equal(await [...first, ...waiting][index], name, 'the one that waits longest is next')
  }
  await t.rejects(inTurn(async () => { throw new Error('failed') }), /failed/)
  const last = [run(7), run(8)]
  t.equal(ends.length, 7, 'each place is free again')
  for (const end of ends) end()
  t.same(await Promise.all(last), [7, 8])
})

t.test('R32 a call that has waited too long gives up its place', async (t) => {
  const refused = new Error('refused')
  const inTurn = createTurns({ running: 1, waiting: 1, patience: 0.001, refuse: () => refused })
  let end = (): void => {}
  const first = inTurn(async () => await new Promise<void>((resolve) => { end = resolve }))
  await t.rejects(inTurn(async () => {}), refused)
  await t.rejects(inTurn(async () => {}), refused, 'the place of the one before is free')
  end()
  await first
  t.equal(await inTurn(async () => 1), 1)
})
