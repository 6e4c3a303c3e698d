import { setImmediate } from 'node:timers/promises'
import { addKey, keysAfter, removeKey } from '../util/sorted-keys.ts'
import { now } from '../util/time.ts'
import type { Store, StoreEntry } from '../../types/store.ts'
import type { SortedKeys } from '../util/sorted-keys.ts'

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
/** How many entries `purge` looks at before it lets waiting requests run. */
const PURGE_BATCH = 1000

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
  const keysByTag = new Map<string, SortedKeys>()

  function unexpired (key: string): Entry | undefined {
    const entry = entries.get(key)
    return entry !== undefined && entry.expiresAt > now() ? entry : undefined
  }

  function remove (key: string): void {
    for (const tag of entries.get(key)?.tags ?? []) {
      const keys = keysByTag.get(tag) ?? []
      removeKey(keys, key)
      if (keys.length === 0) keysByTag.delete(tag)
    }
    entries.delete(key)
    shortLived.delete(key)
    longLived.delete(key)
  }

  function write (key: string, entry: Entry): void {
    remove(key)
    entries.set(key, entry)
    for (const tag of entry.tags) addToTag(tag, key)
    const keys = entry.expiresAt - now() < SHORT_LIVED ? shortLived : longLived
    keys.add(key)
    if (keys.size > max) remove(keys.values().next().value as string)
  }

  function addToTag (tag: string, key: string): void {
    const keys = keysByTag.get(tag) ?? []
    addKey(keys, key)
    keysByTag.set(tag, keys)
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
      const found: StoreEntry[] = []
      for (const key of keysAfter(keysByTag.get(tag) ?? [], after)) {
        if (found.length >= limit) break
        const entry = unexpired(key)
        if (entry !== undefined) found.push({ key, value: entry.value })
      }
      return found
    },

    async purge () {
      let [seen, removed] = [0, 0]
      for (const key of entries.keys()) {
        if (++seen % PURGE_BATCH === 0) await setImmediate()
        if (unexpired(key) !== undefined) continue
        remove(key)
        removed++
      }
      return removed
    },

    async close () {
      entries.clear()
      shortLived.clear()
      longLived.clear()
      keysByTag.clear()
    }
  }
}
