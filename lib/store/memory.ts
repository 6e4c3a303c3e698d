import { now } from '../util/time.ts'
import type { Store } from '../../types/store.ts'

/** Options of `createMemoryStore`. */
export interface MemoryStoreOptions {
  /**
   * The limit for entries that last an hour or more, and the same limit for shorter ones. Beyond it, the oldest
   * are dropped. Default: 100000.
   */
  max?: number
}

// Any client can cause short-lived entries, such as used logins. They have their own limit, so that they cannot
// drop sessions.
const SHORT_LIVED = 3600 // seconds

interface Entry {
  value: string
  expiresAt: number
  tags: readonly string[]
}

/** A store for one process. Its entries are lost when the process ends. */
export function createMemoryStore ({ max = 100_000 }: MemoryStoreOptions = {}): Store {
  const entries = new Map<string, Entry>()
  // The keys in the order in which they were written.
  const shortLived = new Set<string>()
  const longLived = new Set<string>()
  const keysByTag = new Map<string, Set<string>>()

  function unexpired (key: string): Entry | undefined {
    const entry = entries.get(key)
    return entry !== undefined && entry.expiresAt > now() ? entry : undefined
  }

  function remove (key: string): void {
    for (const tag of entries.get(key)?.tags ?? []) {
      const keys = keysByTag.get(tag)
      keys?.delete(key)
      if (keys?.size === 0) keysByTag.delete(tag)
    }
    entries.delete(key)
    shortLived.delete(key)
    longLived.delete(key)
  }

  function write (key: string, entry: Entry): void {
    remove(key)
    entries.set(key, entry)
    for (const tag of entry.tags) keysByTag.set(tag, (keysByTag.get(tag) ?? new Set()).add(key))
    const keys = entry.expiresAt - now() < SHORT_LIVED ? shortLived : longLived
    keys.add(key)
    if (keys.size > max) remove(keys.values().next().value as string)
  }

  function keysOf (tag: string): string[] {
    return [...keysByTag.get(tag) ?? []].filter((key) => unexpired(key) !== undefined).sort()
  }

  return {
    get: async (key) => unexpired(key)?.value ?? null,

    has: async (key) => unexpired(key) !== undefined,

    async set (key, value, { expiresAt, tags = [] }) {
      write(key, { value, expiresAt, tags: [...tags] })
    },

    async create (key, value, { expiresAt, tags = [] }) {
      if (unexpired(key) !== undefined) return false
      write(key, { value, expiresAt, tags: [...tags] })
      return true
    },

    async replace (key, expected, value, expiresAt) {
      const entry = unexpired(key)
      if (entry?.value !== expected) return false
      Object.assign(entry, { value, expiresAt })
      return true
    },

    async take (key) {
      const value = unexpired(key)?.value ?? null
      remove(key)
      return value
    },

    async list (tag, { limit = 1000, after = '' } = {}) {
      const keys = keysOf(tag).filter((key) => key > after).slice(0, limit)
      return keys.map((key) => ({ key, value: (entries.get(key) as Entry).value }))
    },

    async purge () {
      const expired = [...entries.keys()].filter((key) => unexpired(key) === undefined)
      expired.forEach(remove)
      return expired.length
    },

    async close () {
      entries.clear()
      shortLived.clear()
      longLived.clear()
      keysByTag.clear()
    }
  }
}
