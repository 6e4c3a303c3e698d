import assert from 'node:assert/strict'
import { now } from '../util/time.ts'
import type { Store } from '../../types/store.ts'

/** One test of a store. */
export interface StoreTest {
  name: string
  run: () => Promise<void>
}

const later = (seconds = 60) => ({ expiresAt: now() + seconds })
const over = () => ({ expiresAt: now() - 1 })
const MANY = 50

/** Makes many calls at the same moment and returns their results. */
const together = async <T>(call: (index: number) => Promise<T>): Promise<T[]> =>
  await Promise.all(Array.from({ length: MANY }, (_, index) => call(index)))

const tests: Record<string, (store: Store) => Promise<void>> = {
  'an entry exists from set until take': async (store) => {
    assert.deepEqual([await store.get('key'), await store.has('key')], [null, false])
    await store.set('key', 'one', later())
    await store.set('key', 'two', later())
    assert.deepEqual([await store.get('key'), await store.has('key')], ['two', true])
    assert.equal(await store.take('key'), 'two')
    assert.equal(await store.take('key'), null)
    assert.equal(await store.get('key'), null)
  },

  'no function sees an expired entry': async (store) => {
    await store.set('key', 'old', { ...over(), tags: ['tag'] })
    assert.equal(await store.get('key'), null)
    assert.equal(await store.replace('key', 'old', 'new', now() + 60), false)
    assert.deepEqual(await store.list('tag'), [])
    assert.equal(await store.take('key'), null)
    await store.set('key', 'old', over())
    assert.equal(await store.has('key'), false)
    assert.equal(await store.create('key', 'new', later()), true)
    assert.equal(await store.get('key'), 'new')
    await store.set('at this moment', 'x', { expiresAt: now() })
    assert.equal(await store.get('at this moment'), null)
  },

  'of many concurrent calls of create, one succeeds': async (store) => {
    const created = await together(async (index) => await store.create('key', String(index), later()))
    assert.equal(created.filter(Boolean).length, 1)
    assert.equal(await store.get('key'), String(created.indexOf(true)))
  },

  'of many concurrent calls of take, one gets the value': async (store) => {
    await store.set('key', 'value', later())
    const taken = await together(async () => await store.take('key'))
    assert.deepEqual(taken.filter((value) => value !== null), ['value'])
  },

  'of many concurrent calls of replace, one succeeds': async (store) => {
    await store.set('key', 'before', later())
    const replaced = await together(async (index) => await store.replace('key', 'before', String(index), now() + 60))
    assert.equal(replaced.filter(Boolean).length, 1)
    assert.equal(await store.get('key'), String(replaced.indexOf(true)))
    assert.equal(await store.replace('key', 'before', 'x', now() + 60), false)
    assert.equal(await store.replace('none', 'before', 'x', now() + 60), false)
    assert.equal(await store.get('none'), null, 'replace does not create an entry')
  },

  'replace does not bring back an entry that was taken': async (store) => {
    await store.set('key', 'value', { ...later(), tags: ['tag'] })
    await store.take('key')
    assert.equal(await store.replace('key', 'value', 'again', now() + 60), false)
    assert.deepEqual([await store.get('key'), await store.list('tag')], [null, []])
  },

  'list finds entries by tag, sorted by key': async (store) => {
    for (const key of ['c', 'a', 'b', 'B', '_']) {
      await store.set(key, `value of ${key}`, { ...later(), tags: ['tag', `only ${key}`.replace(' ', '-')] })
    }
    await store.set('other', 'x', { ...later(), tags: ['other'] })
    const all = await store.list('tag')
    assert.deepEqual(all.map(({ key }) => key), ['B', '_', 'a', 'b', 'c'])
    assert.equal(all[0]?.value, 'value of B')
    assert.deepEqual((await store.list('tag', { limit: 2 })).map(({ key }) => key), ['B', '_'])
    assert.deepEqual((await store.list('tag', { limit: 2, after: '_' })).map(({ key }) => key), ['a', 'b'])
    assert.deepEqual((await store.list('only-a')).map(({ key }) => key), ['a'])
    await store.take('a')
    assert.deepEqual([(await store.list('tag')).length, (await store.list('only-a')).length], [4, 0])
  },

  'replace keeps the tags, and set replaces them': async (store) => {
    await store.set('key', 'one', { ...later(), tags: ['first', 'second'] })
    assert.equal(await store.replace('key', 'one', 'two', now() + 60), true)
    assert.deepEqual(await store.list('first'), [{ key: 'key', value: 'two' }])
    await store.set('key', 'three', { ...later(), tags: ['second', 'third'] })
    assert.deepEqual(
      [await store.list('first'), (await store.list('second')).length, (await store.list('third')).length],
      [[], 1, 1]
    )
    await store.set('key', 'four', later())
    assert.deepEqual(await store.list('third'), [])
  },

  'replace sets a new expiry time': async (store) => {
    await store.set('key', 'one', { ...later(), tags: ['tag'] })
    assert.equal(await store.replace('key', 'one', 'two', now() - 1), true)
    assert.deepEqual([await store.get('key'), await store.list('tag')], [null, []])
  },

  'keys, tags and values can be any printable ASCII text': async (store) => {
    const printable = Array.from({ length: 94 }, (_, index) => String.fromCharCode(33 + index)).join('')
    for (const [key, value] of [
      ['k'.repeat(128), 'x'.repeat(65_536)],
      [printable, `${printable} '"\\%_`],
      ['empty', '']
    ] as const) {
      assert.equal(await store.create(key, value, { ...later(), tags: ['t'.repeat(128), 'k%'] }), true)
      assert.equal(await store.get(key), value)
      assert.equal(await store.replace(key, value, `${value}.`, now() + 60), true)
      assert.equal(await store.take(key), `${value}.`)
    }
  },

  'purge deletes expired entries and no others': async (store) => {
    for (let index = 0; index < 30; index++) {
      await store.set(`old ${index}`.replace(' ', '-'), 'x', { ...over(), tags: ['tag'] })
    }
    await store.set('key', 'value', { ...later(), tags: ['tag'] })
    await store.purge()
    assert.equal(await store.purge(), 0)
    assert.deepEqual(await store.list('tag'), [{ key: 'key', value: 'value' }])
  },

  'a tag can have many entries': async (store) => {
    await together(async (index) => await store.set(`key-${index}`, 'x', { ...later(), tags: ['tag'] }))
    assert.equal((await store.list('tag')).length, MANY)
    const taken = await together(async (index) => await store.take(`key-${index}`))
    assert.equal(taken.filter((value) => value === 'x').length, MANY)
    assert.deepEqual(await store.list('tag'), [])
  }
}

/**
 * Returns the tests that every store must pass, for the author of a store. `open` returns an empty store each time.
 *
 * @example
 * for (const { name, run } of storeContract(async () => createMyStore())) test(name, run)
 */
export function storeContract (open: () => Promise<Store>): StoreTest[] {
  return Object.entries(tests).map(([name, check]) => ({
    name,
    async run () {
      const store = await open()
      try {
        await check(store)
      } finally {
        await store.close()
      }
    }
  }))
}
