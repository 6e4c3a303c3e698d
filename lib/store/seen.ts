import { REFUSED, createBoundedMap } from '../util/bounded-map.ts'
import type { EntryName, SealedStore } from './sealed-store.ts'

/** Names that were seen before: in this process or, with a store, in any process. Times in seconds since the epoch. */
export interface Seen {
  has: (name: EntryName) => Promise<boolean>
  /** Writes to the store first: if that fails, this process does not remember the name either. */
  add: (name: EntryName, expiresAt: number) => Promise<void>
  /** Marks the name as seen. Returns `true` only to the first caller. */
  claim: (name: EntryName, expiresAt: number) => Promise<boolean>
}

/** This process remembers at most `limit` names, and forgets the oldest first. */
export function createSeen (store: SealedStore | undefined, limit = 100_000): Seen {
  const known = createBoundedMap<true>(limit, REFUSED)
  const keyOf = (name: EntryName): string => JSON.stringify(name)
  const isKnown = (key: string): boolean => known.get(key) !== undefined

  return {
    has: async (name) => isKnown(keyOf(name)) || (store !== undefined && await store.has(name)),

    async add (name, expiresAt) {
      await store?.set(name, true, expiresAt)
      known.set(keyOf(name), true, expiresAt)
    },

    async claim (name, expiresAt) {
      const key = keyOf(name)
      if (isKnown(key)) return false
      known.set(key, true, expiresAt)
      return store === undefined || await store.create(name, true, expiresAt) !== null
    }
  }
}
