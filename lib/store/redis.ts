import { OidcError } from '../errors.ts'
import { absent } from '../util/absent.ts'
import { callsOf } from './redis-client.ts'
import { createClusterStore, withFormer } from './redis-cluster.ts'
import { createSlotStore } from './redis-slot.ts'
import type { Store } from '../../types/store.ts'
import type { Call, RedisClient } from './redis-client.ts'

export type { RedisClient, RedisNode } from './redis-client.ts'

/**
 * Options of `createRedisStore`: an address, or a client of the application, which `close` leaves open. Valkey works
 * too. The server must not evict entries that have not expired (`maxmemory-policy noeviction`).
 */
export type RedisStoreOptions = ({ url: string } | { client: RedisClient }) & {
  /** Starts all keys. In braces, unless the client is of a cluster, so that all are in one slot. Default: `oidc`. */
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
  const { prefix = 'oidc' } = options
  if (!('url' in options)) return storeOf(options.client, prefix, async () => {})
  const client = await openClient(options.url)
  return storeOf(client, prefix, async () => client.disconnect())
}

function storeOf (client: RedisClient, prefix: string, close: () => Promise<void>): Store {
  const inOneSlot = createSlotStore(client, `{${prefix}}`)
  const store = client.isCluster === true ? withFormer(createClusterStore(client, prefix), inOneSlot) : inOneSlot
  return { ...store, isDurable: async () => await isDurable(client), close }
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

interface EventedClient extends Required<Pick<RedisClient, 'hmget' | 'eval' | 'call'>> {
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
    hmget: (...parameters) => client.hmget(...parameters).catch(explain),
    eval: (...parameters) => client.eval(...parameters).catch(explain),
    call: (...parameters) => client.call(...parameters).catch(explain),
    disconnect: () => client.disconnect()
  }
}

async function isDurable (client: RedisClient): Promise<boolean | undefined> {
  const answers = await Promise.all(callsOf(client).map(keepsOnDisk))
  if (answers.includes(false)) return false
  return answers.length > 0 && !answers.includes(undefined) ? true : undefined
}

/** By an append-only file or by snapshots. Where CONFIG is not allowed, snapshots cannot be seen. */
async function keepsOnDisk (call: Call): Promise<boolean | undefined> {
  const info = String(await call('INFO', 'persistence'))
  if (/^aof_enabled:1/m.test(info)) return true
  const [, save] = await call('CONFIG', 'GET', 'save').catch(() => []) as string[]
  return save === undefined ? undefined : save !== ''
}
