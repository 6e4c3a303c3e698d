import { now } from '../util/time.ts'
import { splitWords } from '../util/words.ts'
import { createEntryReader, createRunScript, EXTEND, PAGE, PAGE_SIZE } from './redis-client.ts'
import { createPurge } from './redis-purge.ts'
import type { EntryOptions, Store, StoreEntry } from '../../types/store.ts'
import type { RedisClient } from './redis-client.ts'

// All keys are in one slot, so a script changes an entry and the indexes of its tags at once. An index is a sorted set
// of keys. Versions before this one read and write the same.

const LIBRARY = `
local now = tonumber(ARGV[1])
local function living (entry)
  local found = redis.call('HMGET', entry, 'v', 'e', 't')
  if found[1] and tonumber(found[2]) > now then return found end
end
${EXTEND}
local function index (key, expires)
  for at = 2, #KEYS do
    redis.call('ZADD', KEYS[at], 0, key)
    extend(KEYS[at], expires)
  end
end
`
/** Keys: the entry, the indexes. Returns the tags that it had before, or nothing when it was there already. */
const WRITE = `
local key, value, expires, tags, mode = unpack(ARGV, 2)
if mode == 'create' and living(KEYS[1]) then return false end
local before = redis.call('HGET', KEYS[1], 't') or ''
redis.call('HSET', KEYS[1], 'v', value, 'e', expires, 't', tags)
redis.call('EXPIREAT', KEYS[1], expires)
index(key, expires)
return before`
/**
 * Keys: the entry, the indexes. Returns a table when it has written; the tags, when their indexes are not given and
 * would expire before the entry; else nothing.
 */
const REPLACE = `
local key, expected, value, expires, tags = unpack(ARGV, 2)
local found = living(KEYS[1])
if not found or found[1] ~= expected then return false end
if found[3] ~= tags and tonumber(expires) > tonumber(found[2]) then return found[3] end
redis.call('HSET', KEYS[1], 'v', value, 'e', expires)
redis.call('EXPIREAT', KEYS[1], expires)
index(key, expires)
return { key }`
/** Key: the entry. */
const TAKE = `
local found = living(KEYS[1])
local tags = redis.call('HGET', KEYS[1], 't') or ''
redis.call('DEL', KEYS[1])
return { found and found[1] or false, tags }`
/**
 * Keys: the index, the entries. Returns a field of each entry: nothing for those that have ended or no longer have the
 * tag, and removes these from the index.
 */
const READ = `
local tag, field = ARGV[2], ARGV[3]
local fields = {}
for at = 2, #KEYS do
  local found = redis.call('HMGET', KEYS[at], field, 'e', 't')
  local isListed = found[1] and tonumber(found[2]) > now
    and string.find(' ' .. found[3] .. ' ', ' ' .. tag .. ' ', 1, true)
  if not isListed then redis.call('ZREM', KEYS[1], ARGV[at + 2]) end
  fields[at - 1] = isListed and found[1] or false
end
return fields`

/** A store in one slot, without `close`. `prefix` begins with braces. */
export function createSlotStore (client: RedisClient, prefix: string): Omit<Store, 'close'> {
  const entryOf = (key: string): string => `${prefix}:entry:${key}`
  const indexOf = (tag: string): string => `${prefix}:tag:${tag}`
  const run = createRunScript(client, LIBRARY)
  const { get, has } = createEntryReader(client, entryOf)

  async function write (key: string, value: string, options: EntryOptions, mode: 'set' | 'create'): Promise<boolean> {
    const { expiresAt, tags = [] } = options
    const indexed = expiresAt > now() ? tags : []
    const keys = [entryOf(key), ...indexed.map(indexOf)]
    const before = await run<string | null>(WRITE, keys, [key, value, expiresAt, indexed.join(' '), mode])
    if (before !== null) await forget(key, splitWords(before).filter((tag) => !indexed.includes(tag)))
    return before !== null
  }

  async function replace (
    key: string, expected: string, value: string, expiresAt: number, tags = ''
  ): Promise<boolean> {
    const keys = [entryOf(key), ...splitWords(tags).map(indexOf)]
    const result = await run<[string] | string | null>(REPLACE, keys, [key, expected, value, expiresAt, tags])
    return typeof result === 'string' ? await replace(key, expected, value, expiresAt, result) : result !== null
  }

  /** The entry is done: if this fails, `list` or `purge` removes what stays in the indexes. */
  async function forget (key: string, tags: string[]): Promise<void> {
    await Promise.all(tags.map(async (tag) => await readFields(tag, 'e', [key]))).catch(() => {})
  }

  /** The value (v) or the expiry (e) of each entry that has the tag. */
  async function readFields (tag: string, field: 'v' | 'e', keys: string[]): Promise<Array<string | null>> {
    return await run(READ, [indexOf(tag), ...keys.map(entryOf)], [tag, field, ...keys])
  }

  async function pageOf (tag: string, from: string, size = PAGE_SIZE): Promise<{ keys: string[], next?: string }> {
    const keys = await run<string[]>(PAGE, [indexOf(tag)], [from, size])
    return keys.length < size ? { keys } : { keys, next: `(${keys.at(-1) as string}` }
  }

  return {
    get,
    has,
    set: async (key, value, options) => { await write(key, value, options, 'set') },
    create: async (key, value, options) => await write(key, value, options, 'create'),
    replace: async (key, expected, value, expiresAt) => await replace(key, expected, value, expiresAt),

    async take (key) {
      const [value, tags] = await run<[string | null, string]>(TAKE, [entryOf(key)], [])
      await forget(key, splitWords(tags))
      return value
    },

    async list (tag, { limit = 1000, after = '' } = {}) {
      const found: StoreEntry[] = []
      let from: string | undefined = after === '' ? '-' : `(${after}`
      while (from !== undefined && found.length < limit) {
        const { keys, next } = await pageOf(tag, from, Math.min(limit - found.length, PAGE_SIZE))
        const values = await readFields(tag, 'v', keys)
        for (const [at, value] of values.entries()) {
          if (value !== null) found.push({ key: keys[at] as string, value })
        }
        from = next
      }
      return found
    },

    purge: createPurge(client, indexOf(''), async (tag, from) => {
      const { keys, next } = await pageOf(tag, from)
      await readFields(tag, 'e', keys)
      return next
    })
  }
}
