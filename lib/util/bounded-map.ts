import { now } from './time.ts'

/** A map that holds at most `limit` entries, dropping the oldest, and forgets each at its time. */
export interface BoundedMap<V> {
  get: (key: string) => V | undefined
  /** `expiresAt` in seconds since the epoch; without it the entry stays until it is the oldest. */
  set: (key: string, value: V, expiresAt?: number) => void
  delete: (key: string) => void
  clear: () => void
  /** The values, oldest first. */
  values: () => V[]
  readonly size: number
}

interface Entry<V> {
  key: string
  value: V
  expiresAt: number
  older: Entry<V> | undefined
  newer: Entry<V> | undefined
}

/**
 * The entries are linked in their order: a Map whose first entries are removed again and again is slow to
 * find the next.
 */
export function createBoundedMap<V> (limit: number): BoundedMap<V> {
  const entries = new Map<string, Entry<V>>()
  let oldest: Entry<V> | undefined
  let newest: Entry<V> | undefined

  function append (entry: Entry<V>): void {
    entries.set(entry.key, entry)
    if (newest === undefined) oldest = entry
    else newest.newer = entry
    newest = entry
  }

  function remove (key: string): void {
    const entry = entries.get(key)
    if (entry === undefined) return
    entries.delete(key)
    const { older, newer } = entry
    if (older === undefined) oldest = newer
    else older.newer = newer
    if (newer === undefined) newest = older
    else newer.older = older
  }

  // The oldest expire first where all live equally long: what is over goes with every entry that comes.
  function dropOldest (): void {
    while (oldest !== undefined && (entries.size > limit || oldest.expiresAt <= now())) remove(oldest.key)
  }

  return {
    get (key) {
      const entry = entries.get(key)
      return entry !== undefined && (entry.expiresAt === Infinity || entry.expiresAt > now()) ? entry.value : undefined
    },
    set (key, value, expiresAt = Infinity) {
      remove(key)
      append({ key, value, expiresAt, older: newest, newer: undefined })
      dropOldest()
    },
    delete: remove,
    clear () {
      entries.clear()
      oldest = newest = undefined
    },
    values () {
      const values: V[] = []
      for (let entry = oldest; entry !== undefined; entry = entry.newer) values.push(entry.value)
      return values
    },
    get size () {
      return entries.size
    }
  }
}
