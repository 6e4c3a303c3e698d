import {
  changePlaces, limitMemory, skipWithoutRedisServer, startCluster, startPair, startRedis, startSentinel, startWay
} from '../../test/support/redis-servers.ts'
import type { RedisServer } from '../../test/support/redis-servers.ts'
import type { Fault } from './fault.ts'

const skip = skipWithoutRedisServer

/** What a crash may lose is on the disk at once. */
const DURABLE = { appendonly: 'yes', appendfsync: 'always' }

export const redisFaults: Fault[] = [
  {
    name: 'redis-half-open',
    title: 'Redis: all connections are half open',
    skip,
    async prepare (t) {
      const way = await startWay(t, await startRedis(t))
      return { application: { store: way.url }, begin: way.freeze }
    }
  },
  {
    name: 'redis-restart',
    title: 'Redis crashes, and is started again',
    skip,
    async prepare (t) {
      const { url, end, start } = await startRedis(t, DURABLE)
      return { application: { store: url }, begin: end, end: start }
    }
  },
  {
    name: 'redis-sentinel',
    title: 'Redis: the master hangs, and Sentinel makes its replica the master',
    skip,
    async prepare (t) {
      const [master] = await startPair(t)
      const sentinel = await startSentinel(t, master)
      return { application: { store: { sentinel } }, begin: master.freeze }
    }
  },
  {
    name: 'redis-readonly',
    title: 'Redis: the server becomes a replica (`READONLY`), and its address leads to the new master',
    skip,
    async prepare (t) {
      const [master, replica] = await startPair(t)
      const way = await startWay(t, master)
      const begin = async (): Promise<void> => {
        await changePlaces(master, replica)
        way.turn(replica)
      }
      return { application: { store: way.url }, begin }
    }
  },
  {
    name: 'redis-full',
    title: 'Redis is full (`noeviction`)',
    skip,
    async prepare (t) {
      const { url, client } = await startRedis(t)
      return {
        application: { store: url },
        begin: async () => await limitMemory([client], '1'),
        end: async () => await limitMemory([client], '0')
      }
    }
  },
  {
    name: 'redis-cluster',
    title: 'Redis Cluster: one of three nodes is away',
    skip,
    async prepare (t) {
      const { masters } = await startCluster(t)
      const [first, second] = masters as [RedisServer, RedisServer]
      return { application: { store: { cluster: first.port } }, begin: second.freeze, end: second.thaw }
    }
  }
]
