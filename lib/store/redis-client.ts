import { now } from '../util/time.ts'

/** The part of a client that the store uses. The clients of `ioredis` and `@fastify/redis` (`app.redis`) fit. */
export interface RedisClient {
  hmget: (key: string, ...fields: string[]) => Promise<Array<string | null>>
  eval: (script: string, numberOfKeys: number, ...keysAndArguments: Array<string | number>) => Promise<unknown>
  /** Whether it is a client of a Redis Cluster. Then the keys are spread over the slots. */
  isCluster?: boolean
  /** The clients of the nodes of a cluster. */
  nodes?: (role: 'master') => RedisNode[]
  /** Sends any command. Without it, `purge` removes nothing from the indexes, and `isDurable` does not know. */
  call?: (command: string, ...parameters: string[]) => Promise<unknown>
  options?: { keyPrefix?: string | undefined }
}

export interface RedisNode {
  call?: (command: string, ...parameters: string[]) => Promise<unknown>
}

export type Call = NonNullable<RedisNode['call']>

/**
 * Runs a script on the keys that it declares. `ARGV[1]` is the current time: that of the application, in seconds.
 * Redis refuses a script that writes (OOM, READONLY) at its first write that may fail. So a script does nothing that
 * cannot be undone before that.
 */
export type RunScript = <T>(script: string, keys: string[], parameters: Array<string | number>) => Promise<T>

/** `library` comes before each script. */
export function createRunScript (client: RedisClient, library: string): RunScript {
  return async <T>(script: string, keys: string[], parameters: Array<string | number>) =>
    await client.eval(library + script, keys.length, ...keys, now(), ...parameters) as T
}

/** Every node that holds entries, as far as it takes any command. */
export function callsOf (client: RedisClient): Call[] {
  const nodes: RedisNode[] = client.nodes?.('master') ?? [client]
  return nodes.flatMap((node) => node.call === undefined ? [] : [node.call.bind(node)])
}

/** An entry is a hash: its value (v), expiry (e) and tags (t), in a cluster also its mark (m). */
export interface EntryReader {
  get: (key: string) => Promise<string | null>
  has: (key: string) => Promise<boolean>
  /** The value of an entry, when it has this mark. */
  getMarked: (key: string, mark: string) => Promise<string | null>
}

export function createEntryReader (client: RedisClient, nameOf: (key: string) => string): EntryReader {
  const isLiving = (expiresAt: string | null | undefined): boolean => Number(expiresAt) > now()

  return {
    async get (key) {
      const [value, expiresAt] = await client.hmget(nameOf(key), 'v', 'e')
      return isLiving(expiresAt) ? value as string : null
    },

    has: async (key) => isLiving((await client.hmget(nameOf(key), 'e'))[0]),

    async getMarked (key, mark) {
      const [value, expiresAt, found] = await client.hmget(nameOf(key), 'v', 'e', 'm')
      return isLiving(expiresAt) && found === mark ? value as string : null
    }
  }
}

/** Of the scripts: an index does not expire before the entries in it. */
export const EXTEND = `
local function extend (index, expires)
  local left = redis.call('TTL', index)
  if left < 0 or redis.call('TIME')[1] + left < tonumber(expires) then redis.call('EXPIREAT', index, expires) end
end
`
/** A part of an index, from a bound of ZRANGEBYLEX. */
export const PAGE = "return redis.call('ZRANGEBYLEX', KEYS[1], ARGV[2], '+', 'LIMIT', 0, ARGV[3])"
/** How much of an index one script reads, so that it blocks others for a moment only. */
export const PAGE_SIZE = 100
