import { createBoundedMap } from '../util/bounded-map.ts'
import type { Name, Vault } from './sealed-store.ts'

/** What was seen before, by this process or, where there is a store, by any. */
export interface Memory {
  knows: (name: Name) => Promise<boolean>
  /** `expiresAt` in seconds since the epoch. */
  add: (name: Name, expiresAt: number) => Promise<void>
}

/** Past this number one process forgets the oldest. */
const MAX_REMEMBERED = 100_000

export function createMemory (vault: Vault | undefined): Memory {
  const known = createBoundedMap<true>(MAX_REMEMBERED)
  const keyOf = (name: Name): string => JSON.stringify(name)
  return {
    knows: async (name) => known.get(keyOf(name)) !== undefined || (vault !== undefined && await vault.has(name)),

    async add (name, expiresAt) {
      await vault?.set(name, true, expiresAt)
      known.set(keyOf(name), true, expiresAt)
    }
  }
}
