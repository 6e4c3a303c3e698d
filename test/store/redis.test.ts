import { readFileSync } from 'node:fs'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { Redis } from 'ioredis'
import t from 'tap'
import { connectionOptions, createRedisStore } from '../../lib/store/redis.ts'
import { createClusterStore } from '../../lib/store/redis-cluster.ts'
import { storeContract } from '../../lib/testing/index.ts'
import { now } from '../../lib/util/time.ts'
import { checkIndex } from '../support/bounded-index.ts'
import {
  changePlaces, limitMemory, skipWithoutRedisServer, startCluster, startPair, startRedis, startSentinel, startWay
} from '../support/redis-servers.ts'
import { uniqueName } from '../support/services.ts'
import { until } from '../support/until.ts'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import type { Store } from '../../index.ts'
import type { RedisClient, RedisStoreOptions } from '../../lib/store/redis.ts'
import type { RedisServer, RunningCluster } from '../support/redis-servers.ts'

// The servers of these tests are their own: they become replicas, are full, hang or die.

const options = { skip: skipWithoutRedisServer }
const later = { expiresAt: now() + 3600 }
const keysOf = (entries: Array<{ key: string }>): string[] => entries.map(({ key }) => key)
const succeeds = async (work: Promise<unknown>): Promise<boolean> => await work.then(() => true, () => false)

async function storeWith (t: Test, options: RedisStoreOptions): Promise<Store> {
  const store = await createRedisStore(options)
  t.teardown(async () => await store.close())
  return store
}

async function replicated ({ client }: RedisServer, key: string): Promise<void> {
  await until(async () => await client.exists(`{oidc}:entry:${key}`) === 1)
}

/** How many pairs of a tag and an entry the indexes have. */
async function countIndexed (...clients: Redis[]): Promise<number> {
  let count = 0
  for (const client of clients) {
    const names = (await client.keys('*')).filter((name) => name.includes(':tag:'))
    count += (await Promise.all(names.map(async (name) => await client.zcard(name)))).reduce((a, b) => a + b, 0)
  }
  return count
}

// They start at the same time, which takes as long as the slowest.
const [pair, own, cluster] = skipWithoutRedisServer === false
  ? await Promise.all([startPair(t), startRedis(t), startCluster(t)])
  : []

t.test('R18 a server that has become a replica: the store finds the new master by the same address', options, async (t) => {
  const [first, second] = pair as [RedisServer, RedisServer]
  const way = await startWay(t, first)
  const store = await storeWith(t, { url: way.url })
  await until(async () => await succeeds(store.set('session', 'value', later)))
  await replicated(second, 'session')
  await changePlaces(first, second)
  way.turn(second)
  const errors: string[] = []
  const tryToWrite = async (): Promise<unknown> => await store.set('session', 'newer', later).catch((error: Error) => {
    errors.push(error.message)
    throw error
  })
  await until(async () => await succeeds(tryToWrite()))
  t.ok(errors.some((message) => message.startsWith('READONLY')), errors.join())
  t.ok(errors.length < 5, 'one of the next calls reaches the master')
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
  await until(async () => await succeeds(store.set('before', 'value', later)))
  await replicated(replica, 'before')
  master.freeze()
  const began = performance.now()
  await until(async () => await succeeds(store.set('after', 'value', later)))
  t.comment(`after the master had stopped, recovered in ${(performance.now() - began).toFixed(0)} ms`)
  const valueOf = async (key: string): Promise<string | null> => await replica.client.hget(`{oidc}:entry:${key}`, 'v')
  t.same([await valueOf('before'), await valueOf('after')], ['value', 'value'])
}

async function testHalfOpen (t: Test, server: RedisServer): Promise<void> {
  const way = await startWay(t, server)
  // Where other work shares the cores, an answer may take longer than the store waits.
  const client = new Redis(way.url, { ...connectionOptions, commandTimeout: 60_000, enableAutoPipelining: true })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  const store = await createRedisStore({ client })
  await store.set('session', 'value', { ...later, tags: ['tag'] })
  way.freeze()
  const began = performance.now()
  const answers = await Promise.all([store.get('session'), store.list('tag'), store.has('other')])
  t.comment(`half open, recovered in ${(performance.now() - began).toFixed(0)} ms`)
  t.same(answers, ['value', [{ key: 'session', value: 'value' }], false], 'late, but without an error')
}

t.test('one server', options, async (t) => {
  const server = own as RedisServer
  const { client } = server
  const store = await createRedisStore({ client })
  t.beforeEach(async () => { await client.flushall() })

  await t.test('a server that is full changes nothing, and takes logouts', async (t) => {
    await testFull(t, store, [client])
  })

  await t.test('the indexes have no more than the entries after expiry and purge', async (t) => {
    await checkIndex(t, store, async () => await countIndexed(client))
    t.equal(await client.exists('{oidc}:tag:own-1'), 0)
  })

  await t.test('purge removes what Redis has removed', async (t) => {
    for (const key of ['a', 'b', 'c']) await store.set(key, 'x', { ...later, tags: ['tag'] })
    await client.del('{oidc}:entry:a', '{oidc}:entry:c')
    t.equal(await store.purge(), 0)
    t.same(await client.zrange('{oidc}:tag:tag', '0', '-1'), ['b'])
    await client.del('{oidc}:entry:b')
    t.same(await store.list('tag'), [])
    t.equal(await client.exists('{oidc}:tag:tag'), 0, 'list removes it too')
  })

  await t.test('purge works for two seconds at most, and goes on where it has stopped', async (t) => {
    for (let index = 0; index < 1500; index++) client.hset(`other-${index}`, 'x', 'x').catch(t.fail)
    await store.set('a', 'x', { ...later, tags: ['tag'] })
    await client.del('{oidc}:entry:a')
    const { performance: { now: real } } = globalThis
    t.teardown(() => { performance.now = real })
    let time = 0
    performance.now = () => { time += 1000; return time }
    let calls = 0
    for (; await client.exists('{oidc}:tag:tag') === 1; calls++) await store.purge()
    t.ok(calls > 0 && calls < 50, `${calls} calls`)
  })

  await t.test('a purge that fails begins again', async (t) => {
    let fails = true
    const call = async (command: string, ...parameters: string[]): Promise<unknown> => {
      if (fails) throw new Error('down')
      return await client.call(command, ...parameters)
    }
    const own = await createRedisStore({ client: { ...clientOf(client), call } })
    await own.set('a', 'x', { ...later, tags: ['tag'] })
    await client.del('{oidc}:entry:a')
    await t.rejects(own.purge(), { message: 'down' })
    fails = false
    await own.purge()
    t.equal(await client.exists('{oidc}:tag:tag'), 0)
  })

  await t.test('a script uses only the keys that it declares', async (t) => {
    const monitor = await client.monitor()
    t.teardown(() => monitor.disconnect())
    const lines: Array<{ args: string[], source: string }> = []
    monitor.on('monitor', (_time: string, args: string[], source: string) => lines.push({ args, source }))
    await useAll(store)
    await client.echo('the end')
    await until(() => lines.some(({ args }) => args.includes('the end')))
    let declared: string[] = []
    const used = new Set<string>()
    for (const { args: [command, ...args], source } of lines) {
      if (command?.toLowerCase() === 'eval') declared = args.slice(2, 2 + Number(args[1]))
      if (source !== 'lua' || command === 'TIME') continue
      t.ok(declared.includes(args[0] as string), `${command as string} ${args[0] as string}`)
      used.add(command as string)
    }
    t.ok(used.has('HSET') && used.has('ZADD') && used.has('ZREM'), [...used].join())
  })

  await t.test('no script reads or changes more than a part of an index', async (t) => {
    const sizes: number[] = []
    const counting = clientOf(client, async (script, numberOfKeys, ...others) => {
      const answer = await client.eval(script, numberOfKeys, ...others)
      sizes.push(numberOfKeys, Array.isArray(answer) ? answer.length : 0)
      return answer
    })
    const call: RedisClient['call'] & {} = async (...parameters) => await client.call(...parameters)
    const own = await createRedisStore({ client: { ...counting, call } })
    const names = Array.from({ length: 450 }, (_, index) => `key-${index}`)
    await Promise.all(names.map(async (key) => await own.set(key, 'x', { ...later, tags: ['tag'] })))
    t.equal((await own.list('tag')).length, 450)
    t.same(keysOf(await own.list('tag', { limit: 120, after: 'key-100' })), names.sort().slice(4, 124))
    await client.del(...names.slice(0, 400).map((key) => `{oidc}:entry:${key}`))
    t.same(keysOf(await own.list('tag', { limit: 10 })), names.slice(400, 410), 'past those that have ended')
    await own.purge()
    t.ok(Math.max(...sizes) <= 101, String(Math.max(...sizes)))
  })

  await t.test('what cannot be removed from an index at once is removed later', async (t) => {
    let fails = true
    const flaky = clientOf(client, async (script, ...others) => {
      if (fails && script.includes('ZREM')) throw new Error('down')
      return await client.eval(script, ...others)
    })
    const own = await createRedisStore({ client: flaky })
    await own.set('a', 'x', { ...later, tags: ['tag'] })
    t.equal(await own.take('a'), 'x', 'the logout has succeeded')
    t.equal(await client.zcard('{oidc}:tag:tag'), 1)
    fails = false
    t.same(await own.list('tag'), [])
    t.equal(await client.zcard('{oidc}:tag:tag'), 0)
    t.same([await own.purge(), await own.isDurable?.()], [0, undefined], 'a client that takes no other command')
  })

  await t.test('an index lasts as long as its entries, whatever the clocks say', async (t) => {
    const [before, after] = [now() - 60, now() + 600]
    await store.set('a', 'x', { expiresAt: after, tags: ['tag'] })
    await store.set('b', 'x', { expiresAt: after + 600, tags: ['tag'] })
    t.equal(await store.replace('a', 'x', 'y', after + 1200), true)
    const ends = now() + await client.ttl('{oidc}:tag:tag')
    t.ok(ends > after + 1190 && ends < after + 1210)
    const { now: real } = Date
    t.teardown(() => { Date.now = real })
    Date.now = () => (before - 60) * 1000 // the clock of the application is behind that of the server
    await store.set('c', 'x', { expiresAt: before, tags: ['late'] })
    Date.now = real
    t.equal(await client.exists('{oidc}:tag:late'), 0)
  })

  await t.test('a prefix of the client, and one with special characters', async (t) => {
    const prefixed = new Redis(server.port, { keyPrefix: 'app[1]*:' })
    t.teardown(() => prefixed.disconnect())
    const own = await createRedisStore({ client: prefixed, prefix: 'a?b' })
    for (const key of ['a', 'b']) await own.set(key, 'x', { ...later, tags: ['tag'] })
    await client.del('app[1]*:{a?b}:entry:a')
    await own.purge()
    t.same(await client.zrange('app[1]*:{a?b}:tag:tag', '0', '-1'), ['b'])
  })

  await t.test('purge goes on beside an application whose prefix begins with the own one', async (t) => {
    const own = createClusterStore(client as unknown as RedisClient, 'a')
    const other = createClusterStore(client as unknown as RedisClient, 'a:tag')
    await other.set('key', 'value', { ...later, tags: ['sub'] })
    await t.resolves(own.purge())
    t.same(await other.list('sub'), [{ key: 'key', value: 'value' }])
    const call: RedisClient['call'] & {} = async (...parameters) => await client.call(...parameters)
    const fails = clientOf(client, async () => { throw new Error('down') })
    await own.set('mine', 'value', { ...later, tags: ['sub'] })
    await t.rejects(createClusterStore({ ...fails, call }, 'a').purge(), { message: 'down' })
  })

  await t.test('whether it keeps anything on disk', async (t) => {
    t.equal(await store.isDurable?.(), false)
    await client.config('SET', 'save', '3600 1')
    t.equal(await store.isDurable?.(), true, 'snapshots')
    await client.config('SET', 'save', '')
    await client.config('SET', 'appendonly', 'yes')
    t.equal(await store.isDurable?.(), true, 'an append-only file')
    await client.config('SET', 'appendonly', 'no')
    await client.call('ACL', 'SETUSER', 'limited', 'on', 'nopass', '~*', '+@all', '-config')
    const limited = await storeWith(t, { url: `redis://limited:any@127.0.0.1:${server.port}` })
    t.equal(await limited.isDurable?.(), undefined, 'CONFIG is not allowed')
  })

  await t.test('what versions before have written', async (t) => await testFormer(t, store, [client]))
})

t.test('a cluster', options, async (t) => {
  const { client, masters } = cluster as RunningCluster
  const nodes = masters.map(({ client }) => client)
  const open = async (prefix = uniqueName()): Promise<Store> => await createRedisStore({ client, prefix })
  t.beforeEach(async () => { await Promise.all(nodes.map(async (node) => await node.flushall())) })

  for (const { name, run } of storeContract(async () => await open())) {
    await t.test(name, async (t) => {
      await run()
      t.pass()
    })
  }

  await t.test('the keys are on all nodes, each in the slot of its own name', async (t) => {
    const store = await open('oidc')
    await Promise.all(Array.from({ length: 60 }, async (_, index) => {
      await store.set(`session-${index}`, 'x', { ...later, tags: ['provider', `sub-${index}`] })
    }))
    const names = await Promise.all(nodes.map(async (node) => await node.keys('*')))
    t.ok(names.every(({ length }) => length > 20), names.map(({ length }) => length).join())
    const slots = await Promise.all(names.flat().map(async (name) => await nodes[0]?.call('CLUSTER', 'KEYSLOT', name)))
    t.ok(new Set(slots).size > 100)
    t.equal((await store.list('provider')).length, 60)
  })

  await t.test('servers that are full change nothing, and take logouts', async (t) => {
    await testFull(t, await open(), nodes)
  })

  await t.test('the indexes have no more than the entries after expiry and purge', async (t) => {
    await checkIndex(t, await open(), async () => await countIndexed(...nodes))
  })

  await t.test('an entry that ends while another process writes it again stays in its index', async (t) => {
    const store = await open()
    const write = async (): Promise<void> => await store.set('session', 'x', { ...later, tags: ['tag'] })
    for (let round = 0; round < 30; round++) {
      await Promise.all([write(), store.take('session'), write(), store.list('tag'), store.take('session'), store.purge()])
      const isThere = await store.has('session')
      t.same(keysOf(await store.list('tag')), isThere ? ['session'] : [])
    }
  })

  await t.test('a write that fails half-way leaves nothing that is listed', async (t) => {
    const flaky: RedisClient = {
      ...clientOf(client, async (script, ...others) => {
        if (script.includes('HSET')) throw new Error('down')
        return await client.eval(script, ...others)
      }),
      isCluster: true
    }
    const store = await createRedisStore({ client: flaky, prefix: 'oidc' })
    await t.rejects(store.set('session', 'x', { ...later, tags: ['tag'] }), { message: 'down' })
    t.equal(await countIndexed(...nodes), 1, 'the index is first')
    t.same(await store.list('tag'), [])
  })

  await t.test('what could not be removed from an index is not listed', async (t) => {
    let fails = true
    const flaky: RedisClient = {
      ...clientOf(client, async (script, ...others) => {
        if (fails && script.includes('ZREM')) throw new Error('down')
        return await client.eval(script, ...others)
      }),
      isCluster: true
    }
    const store = await createRedisStore({ client: flaky, prefix: 'oidc' })
    await store.set('session', 'x', { ...later, tags: ['tag'] })
    t.equal(await store.take('session'), 'x', 'the logout has succeeded')
    fails = false
    t.same([await store.list('tag'), await countIndexed(...nodes)], [[], 1])
  })

  await t.test('a change while the expiry is extended', async (t) => {
    const prefix = uniqueName()
    const store = await open(prefix)
    await store.set('session', 'x', { ...later, tags: ['first'] })
    let isFirst = true
    const slow: RedisClient = {
      ...clientOf(client, async (script, ...others) => {
        const answer = await client.eval(script, ...others)
        if (typeof answer === 'string' && isFirst) {
          isFirst = false
          await store.set('session', 'x', { ...later, tags: ['second'] })
        }
        return answer
      }),
      isCluster: true
    }
    const own = await createRedisStore({ client: slow, prefix })
    t.equal(await own.replace('session', 'x', 'y', later.expiresAt + 60), true)
    t.same([await store.list('first'), keysOf(await store.list('second'))], [[], ['session']])
    t.equal(await countIndexed(...nodes), 1)
  })

  await t.test('whether all keep something on disk', async (t) => {
    const store = await open()
    for (const node of nodes.slice(1)) await node.config('SET', 'save', '3600 1')
    t.equal(await store.isDurable?.(), false, 'one does not')
    await nodes[0]?.config('SET', 'save', '3600 1')
    t.equal(await store.isDurable?.(), true)
  })

  await t.test('what versions before have written is read until it expires', async (t) => {
    await testFormer(t, await open('oidc'), nodes)
  })
})

/** A client with the least that the store needs. */
function clientOf (client: RedisClient, run: RedisClient['eval'] = client.eval.bind(client)): RedisClient {
  return { hmget: client.hmget.bind(client), eval: run }
}

async function useAll (store: Store): Promise<void> {
  await store.set('a', 'x', { ...later, tags: ['first', 'second'] })
  await store.set('a', 'y', { ...later, tags: ['third'] })
  await store.create('a', 'z', { ...later, tags: ['first'] })
  await store.create('b', 'x', { ...later, tags: ['third'] })
  await store.replace('a', 'y', 'z', later.expiresAt + 60)
  await store.list('third')
  await store.take('b')
  await store.purge()
}

async function testFull (t: Test, store: Store, nodes: Redis[]): Promise<void> {
  await store.set('session', 'one', { ...later, tags: ['first', 'second'] })
  await limitMemory(nodes, '1')
  t.teardown(async () => await limitMemory(nodes, '0'))
  const full = { message: /OOM|maxmemory/ }
  await t.rejects(store.set('session', 'two', { ...later, tags: ['third'] }), full)
  await t.rejects(store.set('session', 'two', later), full)
  await t.rejects(store.create('other', 'x', { ...later, tags: ['first'] }), full)
  await t.rejects(store.replace('session', 'one', 'two', later.expiresAt), full)
  await t.rejects(store.replace('session', 'one', 'two', later.expiresAt + 60), full)
  t.equal(await store.get('session'), 'one')
  const lists = await Promise.all(['first', 'second', 'third'].map(async (tag) => keysOf(await store.list(tag))))
  t.same(lists, [['session'], ['session'], []])
  t.equal(await store.take('session'), 'one')
  t.equal(await countIndexed(...nodes), 0)
  await limitMemory(nodes, '0')
  t.equal(await store.create('other', 'x', { ...later, tags: ['first'] }), true)
}

/** The commands that restore what the commit before the spread over slots has written, with the prefix `oidc`. */
const FORMER = JSON.parse(readFileSync('test/fixtures/redis-one-slot.json', 'utf8')) as string[][]

async function testFormer (t: Test, store: Store, nodes: Redis[]): Promise<void> {
  const restore = async (): Promise<void> => {
    for (const [command, ...parameters] of FORMER) {
      const attempts = nodes.map(async (node) => await succeeds(node.call(command as string, ...parameters)))
      t.equal((await Promise.all(attempts)).filter(Boolean).length, 1)
    }
  }
  await restore()
  t.same([await store.get('session-a'), await store.has('session-b'), await store.has('none')], ['value of a', true, false])
  await store.set('session-aa', 'new', { ...later, tags: ['provider'] })
  t.same(await store.list('provider'), [
    { key: 'session-a', value: 'value of a' },
    { key: 'session-aa', value: 'new' },
    { key: 'session-b', value: 'value of b' }
  ])
  t.same(keysOf(await store.list('provider', { limit: 1, after: 'session-a' })), ['session-aa'])
  t.same(keysOf(await store.list('sub-1')), ['session-a', 'session-b'])
  t.equal(await store.create('mark', 'x', later), false)
  t.equal(await store.replace('mark', '1', '2', 9_000_000_100), true)
  t.equal(await store.replace('mark', '1', '3', 9_000_000_100), false)
  t.equal(await store.replace('session-a', 'value of a', 'value of a 2', 9_000_000_100), true)
  t.same([await store.get('mark'), keysOf(await store.list('sub-1'))], ['2', ['session-a', 'session-b']])
  await store.set('session-a', 'value of a 3', { ...later, tags: ['provider'] })
  t.same([await store.get('session-a'), keysOf(await store.list('sub-1'))], ['value of a 3', ['session-b']])
  t.same([await store.take('session-a'), await store.take('session-b')], ['value of a 3', 'value of b'])
  t.same([await store.get('session-a'), await store.take('session-b')], [null, null])
  t.same([await store.list('sub-1'), keysOf(await store.list('provider'))], [[], ['session-aa']])
  await store.purge()
  t.equal(await countIndexed(...nodes), 1)
}
