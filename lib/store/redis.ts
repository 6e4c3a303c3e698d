import { OidcError } from '../errors.ts'
import { now } from '../util/time.ts'
import { absent } from '../util/absent.ts'
import type { Store } from '../../types/store.ts'

/** The part of a client that the store uses. The clients of `ioredis` and `@fastify/redis` (`app.redis`) fit. */
export interface RedisClient {
  hmget: (key: string, ...fields: string[]) => Promise<Array<string | null>>
  eval: (script: string, numberOfKeys: number, ...keysAndArguments: Array<string | number>) => Promise<unknown>
}

/**
 * Options of `createRedisStore`: an address, or a client of the application, which `close` leaves open. Valkey works
 * too. The server must not evict entries that have not expired (`maxmemory-policy noeviction`).
 */
export type RedisStoreOptions = ({ url: string } | { client: RedisClient }) & {
  /** Starts all keys, in braces, so that a cluster keeps them on one node. Default: `oidc`. */
  prefix?: string
}

/** How long the server may take, in milliseconds. */
const TIMEOUT = 3000
/** How long a connection may be silent while an answer is due, and how long it may take to connect. */
const SILENCE = 1500

/**
 * Options for a client of your own (`new Redis({ …, ...connectionOptions })`, or `redisOptions` of a `Cluster`). With
 * them the store recovers within five seconds when a firewall or a dead host has left a connection half open, and when
 * the server has become a replica. The store opens its own client with them.
 */
export const connectionOptions = {
  maxRetriesPerRequest: 1,
  connectTimeout: SILENCE,
  commandTimeout: TIMEOUT,
  socketTimeout: SILENCE,
  retryStrategy: (times: number): number => Math.min(times * 50, 500),
  // The server has become a replica: a new connection, by its name or by Sentinel, finds the one that writes.
  reconnectOnError: ({ message }: Error): boolean => /READONLY|MASTERDOWN/.test(message)
}

/** A store in Redis. Throws FST_OIDC_OPTION if the package `ioredis` is missing. */
export async function createRedisStore (options: RedisStoreOptions): Promise<Store> {
  const prefix = `{${options.prefix ?? 'oidc'}}`
  if (!('url' in options)) return storeOf(options.client, prefix, async () => {})
  const client = await openClient(options.url)
  return storeOf(client, prefix, async () => client.disconnect())
}

interface OwnClient extends RedisClient {
  disconnect: () => void
}

/** `load` imports the optional peer dependency. */
export async function openClient (
  url: string,
  load: () => Promise<unknown> = async () => await import('ioredis').catch(absent)
): Promise<OwnClient> {
  const module = await load() as typeof import('ioredis') | undefined
  if (module === undefined) {
    throw new OidcError('FST_OIDC_OPTION', { message: '"store" in Redis needs the package ioredis' })
  }
  const client = new module.Redis(url, { ...connectionOptions, enableAutoPipelining: true, lazyConnect: true })
  return explained(client as unknown as EventedClient)
}

interface EventedClient extends RedisClient {
  on: (event: string, listener: (error: Error) => void) => unknown
  disconnect: () => void
}

/** When ioredis gives up, its error does not say why. The error of the connection does. */
function explained (client: EventedClient): OwnClient {
  let reason: Error | undefined
  client.on('error', (error) => { reason = error })
  client.on('ready', () => { reason = undefined })

  const explain = (error: Error): never => {
    throw error.name === 'MaxRetriesPerRequestError' ? reason ?? error : error
  }

  return {
    hmget: async (...parameters) => await client.hmget(...parameters).catch(explain),
    eval: async (...parameters) => await client.eval(...parameters).catch(explain),
    disconnect: () => client.disconnect()
  }
}

// An entry is a hash with its value (v), expiry (e) and tags (t). A tag is a sorted set of the keys of its entries.
// It expires with the last of them.
const LIBRARY = `
local prefix, now = KEYS[1], tonumber(ARGV[1])
local function entry (key) return prefix .. ':entry:' .. key end
local function tagged (tag) return prefix .. ':tag:' .. tag end
local function living (key)
  local found = redis.call('HMGET', entry(key), 'v', 'e')
  if found[1] and tonumber(found[2]) > now then return found[1] end
end
local function remove (key)
  local tags = redis.call('HGET', entry(key), 't')
  if tags then for tag in string.gmatch(tags, '%S+') do redis.call('ZREM', tagged(tag), key) end end
  redis.call('DEL', entry(key))
end
local function write (key, value, expires, tags)
  remove(key)
  redis.call('HSET', entry(key), 'v', value, 'e', expires, 't', tags)
  redis.call('EXPIREAT', entry(key), expires)
  for tag in string.gmatch(tags, '%S+') do
    redis.call('ZADD', tagged(tag), 0, key)
    if redis.call('TTL', tagged(tag)) < expires - now then redis.call('EXPIREAT', tagged(tag), expires) end
  end
end
`
const SCRIPTS = {
  set: 'write(ARGV[2], ARGV[3], ARGV[4], ARGV[5])',
  create: 'if living(ARGV[2]) then return 0 end write(ARGV[2], ARGV[3], ARGV[4], ARGV[5]) return 1',
  replace: `
if living(ARGV[2]) ~= ARGV[3] then return 0 end
local tags = redis.call('HGET', entry(ARGV[2]), 't')
write(ARGV[2], ARGV[4], ARGV[5], tags)
return 1`,
  take: 'local value = living(ARGV[2]) remove(ARGV[2]) return value or false',
  list: `
local found, after, limit = {}, ARGV[3], tonumber(ARGV[4])
repeat
  local keys = redis.call('ZRANGEBYLEX', tagged(ARGV[2]), after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, limit)
  for _, key in ipairs(keys) do
    if #found == 2 * limit then return found end
    local value = living(key)
    if value then table.insert(found, key) table.insert(found, value) else remove(key) redis.call('ZREM', tagged(ARGV[2]), key) end
    after = key
  end
until #keys < limit
return found`
}

function storeOf (client: RedisClient, prefix: string, close: () => Promise<void>): Store {
  async function run<T> (script: keyof typeof SCRIPTS, ...parameters: Array<string | number>): Promise<T> {
    return await client.eval(LIBRARY + SCRIPTS[script], 1, prefix, now(), ...parameters) as T
  }

  return {
    async get (key) {
      const [value, expiresAt] = await client.hmget(`${prefix}:entry:${key}`, 'v', 'e')
      return value !== null && value !== undefined && Number(expiresAt) > now() ? value : null
    },

    has: async (key) => Number((await client.hmget(`${prefix}:entry:${key}`, 'e'))[0]) > now(),

    async set (key, value, { expiresAt, tags = [] }) {
      await run('set', key, value, expiresAt, tags.join(' '))
    },

    create: async (key, value, { expiresAt, tags = [] }) =>
      (await run<number>('create', key, value, expiresAt, tags.join(' '))) === 1,

    replace: async (key, expected, value, expiresAt) =>
      (await run<number>('replace', key, expected, value, expiresAt)) === 1,

    take: async (key) => await run<string | null>('take', key),

    async list (tag, { limit = 1000, after = '' } = {}) {
      const found = await run<string[]>('list', tag, after, limit)
      return Array.from({ length: found.length / 2 }, (_, index) => ({
        key: found[2 * index] as string,
        value: found[2 * index + 1] as string
      }))
    },

    purge: async () => 0, // Redis removes expired entries itself

    close
  }
}
