import { now } from '../util/time.ts'
import type { Store } from '../../types/store.ts'

/** Options of `createMemoryStore`. */
export interface MemoryStoreOptions {
  /**
   * The most entries that are kept of those that last for an hour or more, and of those that do not; then the
   * oldest go. Default: 100000.
   */
  max?: number
}

// What anybody can cause, such as a login that was used, is brief: it does not drive out a session.
const BRIEF = 3600 // seconds

interface Entry {
  value: string
  expiresAt: number
  tags: readonly string[]
}

/** A store for one process, which forgets everything when that ends. */
export function createMemoryStore ({ max = 100_000 }: MemoryStoreOptions = {}): Store {
  const entries = new Map<string, Entry>()
  const order = { brief: new Set<string>(), lasting: new Set<string>() }
  const tagged = new Map<string, Set<string>>()

  function living (key: string): Entry | undefined {
    const entry = entries.get(key)
    return entry !== undefined && entry.expiresAt > now() ? entry : undefined
  }

  function remove (key: string): void {
    for (const tag of entries.get(key)?.tags ?? []) {
      const keys = tagged.get(tag)
      keys?.delete(key)
      if (keys?.size === 0) tagged.delete(tag)
    }
    entries.delete(key)
    order.brief.delete(key)
    order.lasting.delete(key)
  }

  function write (key: string, entry: Entry): void {
    remove(key)
    entries.set(key, entry)
    for (const tag of entry.tags) tagged.set(tag, (tagged.get(tag) ?? new Set()).add(key))
    const keys = entry.expiresAt - now() < BRIEF ? order.brief : order.lasting
    keys.add(key)
    if (keys.size > max) remove(keys.values().next().value as string)
  }

  function keysOf (tag: string): string[] {
    return [...tagged.get(tag) ?? []].filter((key) => living(key) !== undefined).sort()
  }

  return {
    get: async (key) => living(key)?.value ?? null,

    has: async (key) => living(key) !== undefined,

    async set (key, value, { expiresAt, tags = [] }) {
      write(key, { value, expiresAt, tags: [...tags] })
    },

    async create (key, value, { expiresAt, tags = [] }) {
      if (living(key) !== undefined) return false
      write(key, { value, expiresAt, tags: [...tags] })
      return true
    },

    async replace (key, expected, value, expiresAt) {
      const entry = living(key)
      if (entry?.value !== expected) return false
      Object.assign(entry, { value, expiresAt })
      return true
    },

    async take (key) {
      const value = living(key)?.value ?? null
      remove(key)
      return value
    },

    async list (tag, { limit = 1000, after = '' } = {}) {
      const keys = keysOf(tag).filter((key) => key > after).slice(0, limit)
      return keys.map((key) => ({ key, value: (entries.get(key) as Entry).value }))
    },

    async purge () {
      const over = [...entries.keys()].filter((key) => living(key) === undefined)
      over.forEach(remove)
      return over.length
    },

    async close () {
      entries.clear()
      order.brief.clear()
      order.lasting.clear()
      tagged.clear()
    }
  }
}
