import { now } from './time.ts'

/** A map with a limit: it drops the oldest entries, and those that have expired. */
export interface BoundedMap<V> {
  get: (key: string) => V | undefined
  /** `expiresAt` in seconds since the epoch. Without it, the entry stays until it is the oldest. */
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
 * The entries form a linked list in the order of their insertion. A Map alone would be slow: after many deletions at
 * its start, it takes long to find the first entry.
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

  // If all entries live equally long, the oldest expire first: each new entry removes those that have expired.
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
