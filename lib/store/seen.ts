import { createBoundedMap } from '../util/bounded-map.ts'
import type { EntryName, SealedStore } from './sealed-store.ts'

/** What was seen before, by this process or, where there is a store, by any. */
export interface Seen {
  has: (name: EntryName) => Promise<boolean>
  /** `expiresAt` in seconds since the epoch. */
  add: (name: EntryName, expiresAt: number) => Promise<void>
}

/** Past this number one process forgets the oldest. */
const MAX_REMEMBERED = 100_000

export function createSeen (vault: SealedStore | undefined): Seen {
  const known = createBoundedMap<true>(MAX_REMEMBERED)
  const keyOf = (name: EntryName): string => JSON.stringify(name)
  return {
    has: async (name) => known.get(keyOf(name)) !== undefined || (vault !== undefined && await vault.has(name)),

    async add (name, expiresAt) {
      await vault?.set(name, true, expiresAt)
      known.set(keyOf(name), true, expiresAt)
    }
  }
}
