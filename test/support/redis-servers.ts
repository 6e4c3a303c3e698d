import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { Cluster, Redis } from 'ioredis'
import { freePort } from './free-port.ts'
import { startServer, temporaryFolder } from './own-server.ts'
import { until } from './until.ts'
import type { AddressInfo, Socket } from 'node:net'
import type { Teardown } from './app.ts'
import type { OwnServer } from './own-server.ts'

/** Why tests that start servers of their own are skipped, or `false`. */
export const skipWithoutRedisServer: string | false = process.env['OIDC_TEST_ALL'] !== '1' &&
  spawnSync('redis-server', ['--version']).error !== undefined && 'no redis-server'

export interface RedisServer extends OwnServer {
  port: number
  url: string
  client: Redis
}

const HOST = '127.0.0.1'

/** Starts a server that keeps nothing on disk, unless `options` say so. */
export async function startRedis (t: Teardown, options: Record<string, string> = {}): Promise<RedisServer> {
  const port = await freePort()
  const all = { save: '', appendonly: 'no', 'repl-diskless-sync-delay': '0', ...options }
  const server = await run(t, [], { port: String(port), dir: temporaryFolder(t, 'redis'), ...all })
  const client = connectTo(t, port)
  await client.ping()
  return { ...server, port, url: `redis://${HOST}:${port}`, client }
}

async function run (t: Teardown, args: string[], options: Record<string, string>): Promise<OwnServer> {
  const flags = Object.entries({ bind: HOST, ...options }).flatMap(([name, value]) => [`--${name}`, ...value.split(' ')])
  return await startServer(t, ['redis-server', ...args, ...flags])
}

/** A client of the test, which waits until the server is there. */
function connectTo (t: Teardown, port: number): Redis {
  const client = new Redis(port, HOST, { retryStrategy: () => 20, maxRetriesPerRequest: null })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  return client
}

/** A master with a replica. */
export async function startPair (t: Teardown): Promise<[RedisServer, RedisServer]> {
  const master = await startRedis(t)
  const replica = await startRedis(t, { replicaof: `${HOST} ${master.port}` })
  await until(async () => /state=online/.test(await master.client.info('replication')))
  return [master, replica]
}

/** Lets the replica and its master change places, as a failover does. */
export async function changePlaces (master: RedisServer, replica: RedisServer): Promise<void> {
  await replica.client.replicaof('NO', 'ONE')
  await master.client.replicaof(HOST, replica.port)
}

/** How much memory the server may use, in bytes. With `1`, it is full; with `0`, there is no limit. */
export async function limitMemory (clients: readonly Redis[], bytes: '0' | '1'): Promise<void> {
  await Promise.all(clients.map(async (client) => await client.config('SET', 'maxmemory', bytes)))
}

/** A Sentinel that watches a master with one replica, under the name `main`. Returns its port. */
export async function startSentinel (t: Teardown, master: RedisServer): Promise<number> {
  const port = await freePort()
  const folder = temporaryFolder(t, 'sentinel')
  const file = join(folder, 'sentinel.conf')
  writeFileSync(file, [
    `sentinel monitor main ${HOST} ${master.port} 1`,
    'sentinel down-after-milliseconds main 500',
    'sentinel failover-timeout main 5000'
  ].join('\n'))
  await run(t, [file, '--sentinel'], { port: String(port), dir: folder })
  const client = connectTo(t, port)
  await until(async () => /role-reported,slave/.test(String(await client.call('SENTINEL', 'REPLICAS', 'main'))))
  return port
}

export interface RunningCluster {
  client: Cluster
  masters: RedisServer[]
}

const SLOTS = [[0, 5460], [5461, 10922], [10923, 16383]] as const

/** A cluster of three masters. */
export async function startCluster (t: Teardown): Promise<RunningCluster> {
  const buses = [await freePort(), await freePort(), await freePort()]
  const masters = await Promise.all(buses.map(async (bus) => await startRedis(t, {
    'cluster-enabled': 'yes', 'cluster-port': String(bus), 'cluster-config-file': 'nodes.conf'
  })))
  for (const [at, { client }] of masters.entries()) {
    const [first, last] = SLOTS[at] as readonly [number, number]
    await client.call('CLUSTER', 'SET-CONFIG-EPOCH', at + 1)
    await client.call('CLUSTER', 'ADDSLOTSRANGE', first, last)
  }
  const [first, ...others] = masters as [RedisServer, ...RedisServer[]]
  for (const [at, { port }] of others.entries()) {
    await first.client.call('CLUSTER', 'MEET', HOST, port, buses[at + 1] as number)
  }
  const knowsAll = /cluster_state:ok[^]*cluster_slots_assigned:16384[^]*cluster_known_nodes:3/
  await Promise.all(masters.map(async ({ client }) => {
    await until(async () => knowsAll.test(String(await client.call('CLUSTER', 'INFO'))))
  }))
  const client = new Cluster([{ host: HOST, port: first.port }], { slotsRefreshTimeout: 10_000 })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  return { client, masters }
}

/** A way to a server. */
export interface Way {
  url: string
  /** Nothing passes any more on the connections that there are: they stay open, and no side hears of it. */
  freeze: () => void
  /** Where new connections lead. */
  turn: (server: RedisServer) => void
}

export async function startWay (t: Teardown, server: RedisServer): Promise<Way> {
  const ends = new Set<Socket>()
  let { port } = server
  const proxy = createServer((socket) => {
    const upstream = connect(port, HOST)
    for (const [end, other] of [[socket, upstream], [upstream, socket]] as const) {
      ends.add(end)
      end.on('error', () => {}).on('close', () => { ends.delete(end) })
      end.pipe(other)
    }
  }).listen(0, HOST)
  await once(proxy, 'listening')
  t.teardown(() => {
    for (const end of ends) end.destroy()
    proxy.close()
  })
  return {
    url: `redis://${HOST}:${(proxy.address() as AddressInfo).port}`,
    freeze () {
      for (const end of ends) end.unpipe().removeAllListeners('end').resume()
    },
    turn: (next) => { port = next.port }
  }
}
