import t from 'tap'
import { createBoundedMap } from '../../lib/util/bounded-map.ts'
import { createCached } from '../../lib/util/cached.ts'
import { createAdmission } from '../../lib/util/token-cache.ts'
import { startClock } from '../../lib/testing/index.ts'
import { stopClock } from '../support/app.ts'

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

t.test('R31 a cached value is loaded once for all who wait, also a newer one', async (t) => {
  let loads = 0
  let release = (): void => {}
  const cached = createCached(async () => {
    const number = ++loads
    await new Promise<void>((resolve) => { release = resolve })
    return { number }
  }, { maxAge: 1000, maxStale: 1000, retryAfter: 1000 })
  const first = cached.get()
  const joined = cached.get()
  release()
  const value = await first
  t.equal(await joined, value)
  const newer = Promise.all([cached.newerThan(value, () => true), cached.newerThan(value, () => false)])
  release()
  const [a, b] = await newer
  t.equal(a, b, 'a caller that may not load gets the value that is loading')
  t.equal(await cached.newerThan(value, () => { throw new Error('asked') }), a, 'a newer one that is there is taken')
  t.equal(await cached.newerThan(a, () => false), a)
  t.equal(loads, 2)
})
