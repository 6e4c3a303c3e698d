import { hash } from 'node:crypto'
import { addKey, keysAfter, removeKey } from '../util/sorted-keys.ts'
import type { SortedKeys } from '../util/sorted-keys.ts'

/** The keys of the entries that have a tag, in ASCII order. */
export interface TagIndex {
  /** Returns what the entry keeps of the tag, which is one string for all entries that have it. */
  add: (tag: string, key: string) => IndexedTag
  remove: (tag: IndexedTag, key: string) => void
  /** The keys that sort after `after`. */
  keysAfter: (tag: string, after: string) => Iterable<string>
  clear: () => void
}

/** 128 bits of the tag's hash, in as many bytes. */
export type IndexedTag = string

interface Shared {
  tag: IndexedTag
  keys: SortedKeys
}

/** Most tags have one entry only: they have its key instead of a list. */
export function createTagIndex (): TagIndex {
  const index = new Map<IndexedTag, string | Shared>()

  return {
    add (name, key) {
      const tag = indexed(name)
      const found = index.get(tag) ?? key
      if (found === key) {
        index.set(tag, key)
        return tag
      }
      const shared = typeof found === 'object' ? found : { tag, keys: [[found]] }
      addKey(shared.keys, key)
      index.set(tag, shared)
      return shared.tag
    },

    remove (tag, key) {
      const found = index.get(tag)
      if (typeof found === 'object') removeKey(found.keys, key)
      const isEmpty = typeof found === 'object' ? found.keys.length === 0 : found === key
      if (isEmpty) index.delete(tag)
    },

    keysAfter (name, after) {
      const found = index.get(indexed(name))
      if (typeof found === 'object') return keysAfter(found.keys, after)
      return found !== undefined && found > after ? [found] : []
    },

    clear: () => index.clear()
  }
}

function indexed (tag: string): IndexedTag {
  return hash('sha256', tag, 'buffer').toString('latin1', 0, 16)
}
