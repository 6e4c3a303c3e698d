import { randomBytes } from 'node:crypto'
import { now } from '../util/time.ts'
import { splitWords } from '../util/words.ts'
import { createEntryReader, createRunScript, EXTEND, PAGE, PAGE_SIZE } from './redis-client.ts'
import { createPurge } from './redis-purge.ts'
import type { EntryOptions, Store, StoreEntry } from '../../types/store.ts'
import type { RedisClient } from './redis-client.ts'

// In a cluster each entry has its own slot, and each index that of its tag. No script sees both. So a mark ties them
// together: each write with tags makes a new one, which has the expiry of the entry in front. The index has it first,
// as `key mark`; then the entry gets it. What the index names counts when the entry has the same mark. So nothing that
// is removed from an index can be of an entry that another process writes at the same time.

const LIBRARY = `
local now = tonumber(ARGV[1])
local function fields (entry) return redis.call('HMGET', entry, 'v', 'e', 't', 'm') end
local function isLiving (found) return found[1] and tonumber(found[2]) > now end
${EXTEND}
`
/** Key: the index. */
const ADD = `
redis.call('ZADD', KEYS[1], 0, ARGV[2])
extend(KEYS[1], ARGV[3])`
/** Key: the entry. Returns its tags and mark before, or nothing when it was there already. */
const WRITE = `
local value, expires, tags, mark, mode = unpack(ARGV, 2)
local before = fields(KEYS[1])
if mode == 'create' and isLiving(before) then return false end
redis.call('HSET', KEYS[1], 'v', value, 'e', expires, 't', tags, 'm', mark)
redis.call('EXPIREAT', KEYS[1], expires)
return { before[3] or '', before[4] or '' }`
/**
 * Key: the entry. Returns a table with its mark before, when it has written; its tags, when the entry would last longer
 * than its mark says and there is no new one; else nothing.
 */
const REPLACE = `
local expected, value, expires, tags, mark = unpack(ARGV, 2)
local found = fields(KEYS[1])
if not isLiving(found) or found[1] ~= expected then return false end
if found[3] ~= tags and tonumber(expires) > tonumber(found[2]) then return found[3] end
redis.call('HSET', KEYS[1], 'v', value, 'e', expires, 'm', mark == '' and found[4] or mark)
redis.call('EXPIREAT', KEYS[1], expires)
return { found[4] }`
/** Key: the entry. */
const TAKE = `
local found = fields(KEYS[1])
redis.call('DEL', KEYS[1])
return { isLiving(found) and found[1], found[3] or '', found[4] or '' }`
/** Key: the index. */
const REMOVE = "redis.call('ZREM', KEYS[1], unpack(ARGV, 2))"

/** A store in a cluster, without `close`. */
export function createClusterStore (client: RedisClient, prefix: string): Omit<Store, 'close'> {
  const entryOf = (key: string): string => `${prefix}:entry:${key}`
  const indexOf = (tag: string): string => `${prefix}:tag:${tag}`
  const run = createRunScript(client, LIBRARY)
  const { get, has, getMarked } = createEntryReader(client, entryOf)

  /** Returns the mark of what is written next, or '' when it has no tags. */
  async function addToIndexes (key: string, tags: readonly string[], expiresAt: number): Promise<string> {
    if (tags.length === 0) return ''
    const mark = `${expiresAt}.${randomBytes(6).toString('base64url')}`
    await Promise.all(tags.map(async (tag) => await run(ADD, [indexOf(tag)], [`${key} ${mark}`, expiresAt])))
    return mark
  }

  /** The entry is done: if this fails, what stays in the indexes names no entry, and `purge` removes it. */
  async function forget (key: string, mark: string, tags: readonly string[]): Promise<void> {
    await Promise.all(tags.map(async (tag) => await remove(tag, [`${key} ${mark}`]))).catch(() => {})
  }

  async function remove (tag: string, members: string[]): Promise<void> {
    if (members.length > 0) await run(REMOVE, [indexOf(tag)], members)
  }

  async function write (key: string, value: string, options: EntryOptions, mode: 'set' | 'create'): Promise<boolean> {
    const { expiresAt, tags = [] } = options
    const indexed = expiresAt > now() ? tags : []
    const mark = await addToIndexes(key, indexed, expiresAt)
    const parameters = [value, expiresAt, indexed.join(' '), mark, mode]
    const before = await run<[string, string] | null>(WRITE, [entryOf(key)], parameters)
    const [oldTags, oldMark] = before ?? [indexed.join(' '), mark]
    await forget(key, oldMark, splitWords(oldTags))
    return before !== null
  }

  async function replace (
    key: string, expected: string, value: string, expiresAt: number, tags = ''
  ): Promise<boolean> {
    const mark = await addToIndexes(key, splitWords(tags), expiresAt)
    const parameters = [expected, value, expiresAt, tags, mark]
    const result = await run<[string] | string | null>(REPLACE, [entryOf(key)], parameters)
    const isWritten = Array.isArray(result)
    await forget(key, isWritten ? result[0] : mark, splitWords(tags))
    return typeof result === 'string' ? await replace(key, expected, value, expiresAt, result) : isWritten
  }

  /** Removes from the index what has expired, and returns the others. */
  async function pageOf (tag: string, from: string, size = PAGE_SIZE): Promise<{ members: Member[], next?: string }> {
    const texts = await run<string[]>(PAGE, [indexOf(tag)], [from, size])
    const members = texts.map(parseMember)
    await remove(tag, members.filter(isOver).map(({ text }) => text))
    const others = members.filter((member) => !isOver(member))
    return texts.length < size ? { members: others } : { members: others, next: `(${texts.at(-1) as string}` }
  }

  return {
    get,
    has,
    set: async (key, value, options) => { await write(key, value, options, 'set') },
    create: async (key, value, options) => await write(key, value, options, 'create'),
    replace: async (key, expected, value, expiresAt) => await replace(key, expected, value, expiresAt),

    async take (key) {
      const [value, tags, mark] = await run<[string | null, string, string]>(TAKE, [entryOf(key)], [])
      await forget(key, mark, splitWords(tags))
      return value
    },

    async list (tag, { limit = 1000, after = '' } = {}) {
      const found: StoreEntry[] = []
      // '!' follows the space that ends the key: so the first that is found is of the next key.
      let from: string | undefined = after === '' ? '-' : `[${after}!`
      while (from !== undefined && found.length < limit) {
        const { members, next } = await pageOf(tag, from, Math.min(limit - found.length, PAGE_SIZE))
        const values = await Promise.all(members.map(async ({ key, mark }) => await getMarked(key, mark)))
        for (const [at, value] of values.entries()) {
          if (value !== null) found.push({ key: (members[at] as Member).key, value })
        }
        from = next
      }
      return found
    },

    purge: createPurge(client, indexOf(''), async (tag, from) => (await pageOf(tag, from)).next)
  }
}

interface Member {
  text: string
  key: string
  mark: string
}

function parseMember (text: string): Member {
  const [key, mark] = text.split(' ') as [string, string]
  return { text, key, mark }
}

function isOver ({ mark }: Member): boolean {
  return Number(mark.split('.', 1)[0]) <= now()
}

/**
 * Versions before kept all in one slot. What is there is read, changed and removed there, until it expires; what is new
 * is written to `store`.
 */
export function withFormer (store: Omit<Store, 'close'>, former: Omit<Store, 'close'>): Omit<Store, 'close'> {
  return {
    get: async (key) => await store.get(key) ?? await former.get(key),

    has: async (key) => await store.has(key) || await former.has(key),

    async set (key, value, options) {
      await store.set(key, value, options)
      await former.take(key)
    },

    create: async (key, value, options) => !(await former.has(key)) && await store.create(key, value, options),

    replace: async (...parameters) => await store.replace(...parameters) || await former.replace(...parameters),

    async take (key) {
      const before = await former.take(key)
      return await store.take(key) ?? before
    },

    async list (tag, { limit = 1000, after = '' } = {}) {
      const [current, before] = await Promise.all([
        store.list(tag, { limit, after }),
        former.list(tag, { limit, after })
      ])
      const entries = new Map([...before, ...current].map((entry) => [entry.key, entry]))
      return [...entries.values()].sort((a, b) => a.key < b.key ? -1 : 1).slice(0, limit)
    },

    async purge () {
      const [current, before] = await Promise.all([store.purge(), former.purge()])
      return current + before
    }
  }
}
