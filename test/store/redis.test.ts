import { once } from 'node:events'
import { createServer } from 'node:net'
import { Redis } from 'ioredis'
import t from 'tap'
import { connectionOptions, createRedisStore } from '../../lib/store/redis.ts'
import { now } from '../../lib/util/time.ts'
import { skipWithoutRedisServer, startPair, startRedis, startSentinel, startWay } from '../support/redis-servers.ts'
import { until } from '../support/until.ts'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import type { Store } from '../../index.ts'
import type { RedisStoreOptions } from '../../lib/store/redis.ts'
import type { RedisServer } from '../support/redis-servers.ts'

// The servers of these tests are their own: they become replicas, are full, hang or die.

const options = { skip: skipWithoutRedisServer }
const later = { expiresAt: now() + 3600 }
const succeeds = async (work: Promise<unknown>): Promise<boolean> => await work.then(() => true, () => false)

async function storeWith (t: Test, options: RedisStoreOptions): Promise<Store> {
  const store = await createRedisStore(options)
  t.teardown(async () => await store.close())
  return store
}

async function replicated ({ client }: RedisServer, key: string): Promise<void> {
  await until(async () => await client.exists(`{oidc}:entry:${key}`) === 1)
}

// They start at the same time, which takes as long as the slowest.
const [pair, own] = skipWithoutRedisServer === false
  ? await Promise.all([startPair(t), startRedis(t)])
  : []

t.test('R18 a server that has become a replica: the store finds the new master by the same address', options, async (t) => {
  const [first, second] = pair as [RedisServer, RedisServer]
  const way = await startWay(t, first)
  const store = await storeWith(t, { url: way.url })
  await store.set('session', 'value', later)
  await replicated(second, 'session')
  await second.client.replicaof('NO', 'ONE')
  await first.client.replicaof('127.0.0.1', second.port)
  way.turn(second)
  await t.rejects(store.set('session', 'newer', later), { message: /READONLY/ })
  t.equal(await store.replace('session', 'value', 'newer', later.expiresAt), true, 'the next call reaches the master')
  t.equal(await second.client.hget('{oidc}:entry:session', 'v'), 'newer')
  t.ok(connectionOptions.reconnectOnError(new Error('MASTERDOWN Link with MASTER is down')))
  t.notOk(connectionOptions.reconnectOnError(new Error('OOM command not allowed')))
})

t.test('R18 what hangs: a master with Sentinel, and a connection that is half open', options, async (t) => {
  const [first, second] = pair as [RedisServer, RedisServer]
  const { socketTimeout, connectTimeout, retryStrategy } = connectionOptions
  t.ok(socketTimeout + connectTimeout + retryStrategy(1000) < 5000)
  await Promise.all([testFailover(t, second, first), testHalfOpen(t, own as RedisServer)])
})

t.test('the error says why Redis cannot be reached', async (t) => {
  const closed = await storeWith(t, { url: 'redis://127.0.0.1:1' })
  await t.rejects(closed.get('key'), { message: /ECONNREFUSED/ })
  const server = createServer((socket) => socket.on('data', () => socket.end()).on('error', () => {}))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const ended = await storeWith(t, { url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}` })
  await t.rejects(ended.get('key'), { message: /max retries/ }, 'a connection that ends without an error')
})

async function testFailover (t: Test, master: RedisServer, replica: RedisServer): Promise<void> {
  await until(async () => /state=online/.test(await master.client.info('replication')))
  const port = await startSentinel(t, master)
  const client = new Redis({ sentinels: [{ host: '127.0.0.1', port }], name: 'main', ...connectionOptions })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  const store = await createRedisStore({ client })
  await store.set('before', 'value', later)
  await replicated(replica, 'before')
  master.stop()
  const began = performance.now()
  await until(async () => await succeeds(store.set('after', 'value', later)))
  t.comment(`after the master had stopped, recovered in ${(performance.now() - began).toFixed(0)} ms`)
  t.same([await store.get('before'), await replica.client.hget('{oidc}:entry:after', 'v')], ['value', 'value'])
}

async function testHalfOpen (t: Test, server: RedisServer): Promise<void> {
  const way = await startWay(t, server)
  const store = await storeWith(t, { url: way.url })
  await store.set('session', 'value', { ...later, tags: ['tag'] })
  way.freeze()
  const began = performance.now()
  const answers = await Promise.all([store.get('session'), store.list('tag'), store.has('other')])
  t.comment(`half open, recovered in ${(performance.now() - began).toFixed(0)} ms`)
  t.same(answers, ['value', [{ key: 'session', value: 'value' }], false], 'late, but without an error')
}
