import { randomBytes, randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import Fastify from 'fastify'
import t from 'tap'
import oidc from '../../index.ts'
import { openStore } from '../../lib/store/open.ts'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { openPool } from '../../lib/store/postgres-pool.ts'
import { createPostgresStore } from '../../lib/store/postgres.ts'
import { purge } from '../../lib/store/purge.ts'
import { openClient } from '../../lib/store/redis.ts'
import { createSqliteStore, openDatabase } from '../../lib/store/sqlite.ts'
import { sessionCookie } from '../../lib/testing/index.ts'
import { now } from '../../lib/util/time.ts'
import { absent } from '../../lib/util/absent.ts'
import { createPace } from '../../lib/util/pace.ts'
import { BASE_URL } from '../support/app.ts'
import { testKey } from '../support/keys.ts'
import { POSTGRES, skipWithoutSqlite } from '../support/services.ts'
import { until } from '../support/until.ts'
import type { Store } from '../../types/store.ts'

t.test('R32 memory: the oldest go when it is full', async (t) => {
  const store = createMemoryStore({ max: 100 })
  for (let index = 0; index < 150; index++) {
    await store.set(`key-${index}`, 'x', { expiresAt: now() + 60, tags: [index % 2 === 0 ? 'even' : 'odd'] })
  }
  t.same([await store.get('key-49'), await store.get('key-50')], [null, 'x'])
  t.equal((await store.list('even')).length, 50, 'and their tags are removed')
  const usual = createMemoryStore()
  for (let index = 0; index < 100_001; index++) await usual.set(`key-${index}`, 'x', { expiresAt: now() + 60 })
  t.same([await usual.get('key-0'), await usual.get('key-1')], [null, 'x'])
})

t.test('memory: pages of a long list, while entries come and go; purge lets requests run', async (t) => {
  const store = createMemoryStore()
  const keys = Array.from({ length: 3000 }, (_, index) => `key-${index}`)
  for (const key of keys) {
    const expiresAt = now() + (key.endsWith('7') ? -1 : 60)
    await store.set(key, 'x', { expiresAt, tags: ['tag', 'tag'] })
  }
  const expected = keys.filter((key) => !key.endsWith('7')).sort()
  const listed: string[] = []
  for (let after = ''; ;) {
    const page = await store.list('tag', { after, limit: 400 })
    if (page.length === 0) break
    listed.push(...page.map(({ key }) => key))
    after = listed.at(-1) as string
    await store.set(`key-0-${listed.length}`, 'x', { expiresAt: now() + 60, tags: ['tag'] })
    await store.take(`key-0-${listed.length}`)
  }
  t.same(listed, expected)
  let turns = 0
  const timer = setInterval(() => { turns++ }, 0)
  const end = performance.now() + 20
  const purged = store.purge()
  while (performance.now() < end);
  t.equal(await purged, 300)
  clearInterval(timer)
  t.ok(turns > 0)
  t.equal((await store.list('tag', { limit: 5000 })).length, 2700)
  for (const key of keys) await store.take(key)
  t.same(await store.list('tag'), [])
})

t.test('memory: a tag of one entry and a tag of many are listed alike', async (t) => {
  const store = createMemoryStore()
  const keysOf = async (tag: string, after = '') => (await store.list(tag, { after })).map(({ key }) => key)
  const [later, tags] = [{ expiresAt: now() + 60 }, ['a', 'b', 'c', 'd']]
  await store.set('one', 'x', { ...later, tags })
  for (const tag of tags) {
    t.same([await keysOf(tag), await keysOf(tag, 'of'), await keysOf(tag, 'one'), await keysOf(tag, 'p')], [['one'], ['one'], [], []])
  }
  await store.set('an', 'x', { ...later, tags: ['d', 'c', 'c'] })
  await store.set('two', 'x', { ...later, tags: ['a'] })
  t.same(await Promise.all(tags.map(async (tag) => await keysOf(tag))), [['one', 'two'], ['one'], ['an', 'one'], ['an', 'one']])
  await store.take('one')
  t.same(await Promise.all(tags.map(async (tag) => await keysOf(tag))), [['two'], [], ['an'], ['an']])
  await store.close()
  t.same([await store.get('two'), await keysOf('a')], [null, []])
  await store.set('two', 'y', { ...later, tags: ['a'] })
  t.same(await store.list('a'), [{ key: 'two', value: 'y' }])
})

t.test('R32 memory: a session with tokens of Keycloak\'s size takes 2,200 bytes', async (t) => {
  const app = Fastify()
  t.teardown(async () => await app.close())
  const memory = createMemoryStore()
  let bytes = 0
  const store: Store = {
    ...memory,
    async set (key, value, options) {
      bytes = value.length
      await memory.set(key, value, options)
    }
  }
  await app.register(oidc, {
    issuer: 'https://id.example.com', clientId: 'web', baseUrl: BASE_URL, store, session: { key: testKey(1), store: true }
  })
  const random = (length: number): string => randomBytes(length * 3 / 4).toString('base64url')
  const tokens = { access_token: random(1024), refresh_token: random(256), id_token: random(1300) }
  sessionCookie(app, { claims: { sub: randomUUID() }, tokens })
  t.ok(bytes > 1900 && bytes <= 2200, `${bytes} bytes`)
})

t.test(
  'sqlite: a broken database is an error, and a failed change is undone',
  { skip: skipWithoutSqlite },
  async (t) => {
    const database = await openDatabase(':memory:')
    const store = await createSqliteStore({ database })
    await store.set('key', 'value', { expiresAt: now() + 60 })
    database.exec('DROP TABLE oidc_tags; CREATE TABLE oidc_tags (other TEXT)')
    await t.rejects(store.set('key', 'new', { expiresAt: now() + 60, tags: ['tag'] }))
    database.exec('DROP TRIGGER oidc_entries_removed')
    t.equal(await store.get('key'), 'value')
    database.close()
    await t.rejects(store.get('key'))
  }
)

t.test('S82 an invalid address, and a missing package, are errors', async (t) => {
  for (const store of ['', 'mysql://x', 'oidc.db', 'Redis://x']) {
    await t.rejects(openStore(store), { code: 'FST_OIDC_OPTION', message: /"store" must be/ })
  }
  const missing = async () => await import('no-such-package' as string).catch(absent)
  await t.rejects(openPool('postgres://x', missing), { code: 'FST_OIDC_OPTION', message: /package pg/ })
  await t.rejects(openClient('redis://x', missing), { code: 'FST_OIDC_OPTION', message: /package ioredis/ })
  await t.rejects(openDatabase(':memory:', [['no-such-package', 'default']]), {
    code: 'FST_OIDC_OPTION',
    message: /package better-sqlite3/
  })
  await t.rejects(createPostgresStore({ url: POSTGRES, table: 'x; DROP TABLE y' }), {
    code: 'FST_OIDC_OPTION',
    message: /"table"/
  })
  const own = createMemoryStore()
  t.equal(await openStore(own), own)
  for (const url of [
    'postgresql://root@127.0.0.1:1/x', 'postgres://root@127.0.0.1:1/x', 'redis://127.0.0.1:1',
    'rediss://127.0.0.1:1'
  ]) {
    const store = await openStore(url)
    await t.rejects(store.get('key'), url)
    await store.close()
  }
})

t.test(
  'sqlite: waiting for the lock of another process does not block the event loop',
  { skip: skipWithoutSqlite },
  async (t) => {
    const path = join(t.testdir(), 'oidc.db')
    const store = await createSqliteStore({ path })
    t.teardown(async () => await store.close())
    const other = await openDatabase(path)
    t.teardown(() => other.close())
    other.exec('BEGIN IMMEDIATE')
    let turns = 0
    const timer = setInterval(() => {
      turns++
    }, 10)
    t.teardown(() => clearInterval(timer))
    let isWritten = false
    const written = store.set('key', 'value', { expiresAt: now() + 60 }).then(() => { isWritten = true })
    await until(() => turns > 5)
    t.notOk(isWritten, 'the event loop turned while the store waited for the lock')
    other.exec('COMMIT')
    await written
    t.equal(await store.get('key'), 'value')
    other.exec('BEGIN IMMEDIATE')
    const late = [1, 2].map(async () => await store.set('key', 'another', { expiresAt: now() + 60 }))
    t.match(await Promise.allSettled(late), Array(2).fill({ status: 'rejected', reason: /locked/ }), 'the wait ends')
    other.exec('COMMIT')
  }
)

t.test('sqlite: one of those who wait for a lock tries, and SQLite itself never waits', { skip: skipWithoutSqlite }, async (t) => {
  const path = join(t.testdir(), 'oidc.db')
  const database = await openDatabase(path)
  database.exec('PRAGMA busy_timeout = 5000')
  let attempts = 0
  const store = await createSqliteStore({
    database: {
      prepare: (sql) => database.prepare(sql),
      close: () => database.close(),
      exec (sql) {
        if (sql === 'BEGIN IMMEDIATE') attempts++
        return database.exec(sql)
      }
    }
  })
  t.match(database.prepare('PRAGMA busy_timeout').get(), { timeout: 0 })
  const other = await openDatabase(path)
  t.teardown(() => { other.close(); database.close() })
  other.exec('BEGIN IMMEDIATE')
  const written = Promise.all(Array.from({ length: 100 }, async (_, index) => {
    return await store.create(`key-${index}`, 'x', { expiresAt: now() + 60, tags: ['tag'] })
  }))
  await until(() => attempts >= 105)
  const before = attempts
  await nextTurn()
  t.ok(attempts <= before + 1, 'not all of them tried again')
  t.same(await store.list('tag'), [], 'a reader does not wait for a writer')
  other.exec('COMMIT')
  t.same(await written, Array(100).fill(true))
  t.equal((await store.list('tag')).length, 100)
})

t.test('sqlite: a full disk is the error of the call, and a disk with room is used again', { skip: skipWithoutSqlite }, async (t) => {
  const database = await openDatabase(join(t.testdir(), 'oidc.db'))
  t.teardown(() => database.close())
  const store = await createSqliteStore({ database })
  const set = async (key: string): Promise<void> => {
    await store.set(key, 'x'.repeat(60_000), { expiresAt: now() + 60, tags: ['tag'] })
  }
  await set('first')
  database.exec('PRAGMA max_page_count = 40')
  await t.rejects(async () => { for (const key of ['a', 'b', 'c', 'd']) await set(key) }, { message: /disk is full/ })
  t.equal((await store.get('first'))?.length, 60_000)
  await t.rejects(set('e'), { message: /disk is full/ }, 'and the next one too')
  await store.take('first')
  await set('f')
  t.ok((await store.list('tag')).some(({ key }) => key === 'f'))
})

t.test('a purge goes in steps until its time is over, and says what is left', async (t) => {
  const memory = createMemoryStore()
  const limits: unknown[] = []
  const counts = [10, 10, 4]
  const store: Store = {
    ...memory,
    async purge (options) {
      limits.push(options)
      return counts.shift() ?? 0
    },
    countExpired: async (limit) => Math.min(limit, 123_456)
  }
  t.same(await purge(store, { step: 10 }), { removed: 24, left: 0 })
  t.same(limits, Array(3).fill({ limit: 10 }))
  counts.push(10, 10)
  t.same(await purge(store, { step: 10, time: 0 }), { removed: 10, left: 100_000 })
  const { countExpired, ...others } = store
  t.same(await purge(others, { step: 10, time: 0 }), { removed: 10, left: undefined }, 'a store that does not count')
  counts.push(5000)
  t.same(await purge(store, { step: 10 }), { removed: 5000, left: 0 }, 'a store that removes all at once')
  const broken = { ...store, purge: async () => { throw new Error('down') } }
  await t.rejects(purge(broken), { code: 'FST_OIDC_STORE_UNAVAILABLE', detail: 'the store: down' })
})

t.test('long work rests for as long as it took', async (t) => {
  let time = performance.now()
  const real = performance.now
  t.teardown(() => { performance.now = real })
  performance.now = () => time
  const pace = createPace()
  let turns = 0
  const timer = setInterval(() => { turns++ }, 0)
  t.teardown(() => clearInterval(timer))
  time += 9
  await pace()
  t.equal(turns, 0, 'short work does not rest')
  time += 1
  await pace()
  t.ok(turns > 0, 'the event loop turned')
})
