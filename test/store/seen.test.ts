import t from 'tap'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { createSealedStore } from '../../lib/store/sealed-store.ts'
import { createSeen } from '../../lib/store/seen.ts'
import { createSmallBox } from '../../lib/util/small-box.ts'
import { stopClock } from '../support/app.ts'
import { keyBytes } from '../support/keys.ts'
import type { Sealer } from '../../lib/sealer.ts'
import type { EntryName, SealedStore } from '../../lib/store/sealed-store.ts'

const plainSealer: Sealer = {
  seal: (_purpose, content) => JSON.stringify(content),
  open: (_purpose, value) => ({ content: JSON.parse(value), rotated: false }),
  sealBytes: () => '',
  openBytes: () => null,
  small: createSmallBox([keyBytes(1)]),
  digests: () => [],
  setCookie: () => ''
}
const createStore = (): SealedStore => createSealedStore(createMemoryStore(), plainSealer, ['app'])
const inAMinute = (): number => Date.now() / 1000 + 60

const NAME: EntryName = ['proof', 'a', 'b']

t.test('only the first of several callers can claim a name', async (t) => {
  const seen = createSeen(undefined)
  const claims = await Promise.all([1, 2, 3].map(async () => await seen.claim(NAME, inAMinute())))
  t.same(claims, [true, false, false])
  t.equal(await seen.has(NAME), true)
  t.equal(await seen.claim(['proof', 'ab'], inAMinute()), true, 'another name is free')
})

t.test('processes that share a store share what they have seen', async (t) => {
  const store = createStore()
  const [one, other] = [createSeen(store), createSeen(store)]
  t.equal(await one.claim(NAME, inAMinute()), true)
  t.equal(await other.claim(NAME, inAMinute()), false)
  t.equal(await other.has(NAME), true)
  await other.add(['logout', 'c'], inAMinute())
  t.equal(await one.has(['logout', 'c']), true)
  t.equal(await one.claim(['logout', 'c'], inAMinute()), false)
})

t.test('a name is free again when it expires', async (t) => {
  const clock = stopClock(t)
  const seen = createSeen(createStore())
  t.equal(await seen.claim(NAME, inAMinute()), true)
  clock.advance(59)
  t.equal(await seen.claim(NAME, inAMinute()), false)
  clock.advance(1)
  t.equal(await seen.has(NAME), false)
  t.equal(await seen.claim(NAME, inAMinute()), true)
})

t.test('a process remembers at most as many names as its limit', async (t) => {
  const seen = createSeen(undefined, 2)
  for (const id of ['1', '2', '3']) await seen.claim(['id', id], inAMinute())
  t.same(await Promise.all(['1', '2', '3'].map(async (id) => await seen.has(['id', id]))), [false, true, true])
})

t.test('a name that the store could not keep: `add` can be repeated, `claim` cannot', async (t) => {
  const memory = createMemoryStore()
  const failing = { ...memory, set: async () => { throw new Error('down') }, create: async () => { throw new Error('down') } }
  const seen = createSeen(createSealedStore(failing, plainSealer, ['app']))
  const unavailable = { code: 'FST_OIDC_STORE_UNAVAILABLE', detail: 'the store: down' }
  await t.rejects(seen.add(['logout', 'a'], inAMinute()), unavailable)
  t.equal(await seen.has(['logout', 'a']), false)
  await t.rejects(seen.claim(NAME, inAMinute()), unavailable)
  t.equal(await seen.claim(NAME, inAMinute()), false, 'it may be in the store all the same')
})
