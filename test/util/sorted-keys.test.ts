import fc from 'fast-check'
import t from 'tap'
import { addKey, keysAfter, removeKey } from '../../lib/util/sorted-keys.ts'
import type { SortedKeys } from '../../lib/util/sorted-keys.ts'

const printable = fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 3 })
const change = fc.record({ key: printable, isAdded: fc.boolean() })

t.test('the keys are as those of a sorted set, whatever is added and removed', async (t) => {
  fc.assert(fc.property(fc.array(change), printable, (changes, after) => {
    const chunks: SortedKeys = []
    const expected = new Set<string>()
    for (const { key, isAdded } of changes) {
      if (isAdded) addKey(chunks, key)
      else removeKey(chunks, key)
      if (isAdded) expected.add(key)
      else expected.delete(key)
    }
    const sorted = [...expected].sort()
    t.same([...keysAfter(chunks, '')], sorted)
    t.same([...keysAfter(chunks, after)], sorted.filter((key) => key > after))
  }), { numRuns: 50 })
})

t.test('many keys are in chunks, and nothing stays of keys that are gone', async (t) => {
  const chunks: SortedKeys = []
  const keys = Array.from({ length: 5000 }, (_, index) => `key-${(index * 7919) % 5000}`)
  for (const key of keys) addKey(chunks, key)
  t.same([...keysAfter(chunks, '')], [...keys].sort())
  t.ok(chunks.every(({ length }) => length > 0 && length <= 512))
  for (const key of keys) removeKey(chunks, key)
  t.same(chunks, [])
})
