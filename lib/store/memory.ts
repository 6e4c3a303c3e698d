import { setImmediate } from 'node:timers/promises'
import { detach } from '../util/detach.ts'
import { createQueue, empty, join, leave } from '../util/queue.ts'
import { now } from '../util/time.ts'
import { createTagIndex } from './tag-index.ts'
import type { Queue, Queued } from '../util/queue.ts'
import type { IndexedTag } from './tag-index.ts'
import type { EntryOptions, Store, StoreEntry } from '../../types/store.ts'

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

interface Entry extends Queued<Entry> {
  key: string
  value: string
  expiresAt: number
  queue: Queue<Entry>
  // The tags. An array would take twice the room.
  first: IndexedTag | undefined
  second: IndexedTag | undefined
  third: IndexedTag | undefined
  fourth: IndexedTag | undefined
}

/** A store for one process. Its entries are lost when the process ends. */
export function createMemoryStore ({ max = 100_000 }: MemoryStoreOptions = {}): Store {
  const entries = new Map<string, Entry>()
  const shortLived = createQueue<Entry>()
  const longLived = createQueue<Entry>()
  const index = createTagIndex()

  function unexpired (key: string): Entry | undefined {
    const entry = entries.get(key)
    return entry !== undefined && entry.expiresAt > now() ? entry : undefined
  }

  function remove (entry: Entry | undefined): void {
    if (entry === undefined) return
    for (const tag of [entry.first, entry.second, entry.third, entry.fourth]) {
      if (tag !== undefined) index.remove(tag, entry.key)
    }
    entries.delete(entry.key)
    leave(entry.queue, entry)
  }

  function write (name: string, value: string, { expiresAt, tags = [] }: EntryOptions): void {
    remove(entries.get(name))
    const queue = expiresAt - now() < SHORT_LIVED ? shortLived : longLived
    const key = detach(name)
    const [first, second, third, fourth] = tags.map((tag) => index.add(tag, key))
    const place = { queue, older: undefined, newer: undefined }
    const entry: Entry = { key, value, expiresAt, first, second, third, fourth, ...place }
    entries.set(key, entry)
    join(queue, entry)
    if (queue.length > max) remove(queue.oldest)
  }

  return {
    inProcess: true,

    get: async (key) => unexpired(key)?.value ?? null,

    has: async (key) => unexpired(key) !== undefined,

    set: async (key, value, options) => write(key, value, options),

    async create (key, value, options) {
      if (unexpired(key) !== undefined) return false
      write(key, value, options)
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
      remove(entries.get(key))
      return value
    },

    async list (tag, { limit = 1000, after = '' } = {}) {
      const found: StoreEntry[] = []
      for (const key of index.keysAfter(tag, after)) {
        if (found.length >= limit) break
        const entry = unexpired(key)
        if (entry !== undefined) found.push({ key, value: entry.value })
      }
      return found
    },

    async purge () {
      let [seen, removed] = [0, 0]
      for (const entry of entries.values()) {
        if (++seen % PURGE_BATCH === 0) await setImmediate()
        if (entry.expiresAt > now()) continue
        remove(entry)
        removed++
      }
      return removed
    },

    async close () {
      entries.clear()
      index.clear()
      empty(shortLived)
      empty(longLived)
    }
  }
}
