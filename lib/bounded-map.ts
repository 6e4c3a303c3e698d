import { now } from './time.ts'

/** A map that holds at most `limit` entries, dropping the oldest, and forgets each at its time. */
export interface BoundedMap<V> {
  get: (key: string) => V | undefined
  /** `expiresAt` in seconds since the epoch; without it the entry stays until it is the oldest. */
  set: (key: string, value: V, expiresAt?: number) => void
  delete: (key: string) => void
  readonly size: number
}

export function createBoundedMap<V> (limit: number): BoundedMap<V> {
  const entries = new Map<string, { value: V, expiresAt: number }>()

  // The oldest expire first where all live equally long: what is over goes with every entry that comes.
  function dropOldest (): void {
    for (const [key, { expiresAt }] of entries) {
      if (entries.size <= limit && expiresAt > now()) return
      entries.delete(key)
    }
  }

  return {
    get (key) {
      const entry = entries.get(key)
      return entry !== undefined && (entry.expiresAt === Infinity || entry.expiresAt > now()) ? entry.value : undefined
    },
    set (key, value, expiresAt = Infinity) {
      entries.delete(key)
      entries.set(key, { value, expiresAt })
      dropOldest()
    },
    delete (key) {
      entries.delete(key)
    },
    get size () {
      return entries.size
    }
  }
}
