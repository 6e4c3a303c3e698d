import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Redis } from 'ioredis'
import pg from 'pg'
import t from 'tap'
import { openStore } from '../../lib/store/open.ts'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { createPostgresStore, openPool } from '../../lib/store/postgres.ts'
import { createRedisStore, openClient } from '../../lib/store/redis.ts'
import { createSqliteStore, openDatabase } from '../../lib/store/sqlite.ts'
import { storeContract } from '../../lib/testing/index.ts'
import { now } from '../../lib/util/time.ts'
import { absent } from '../../lib/util/absent.ts'
import { stopClock } from '../support/app.ts'
import { compile } from '../support/compile.ts'
import {
  POSTGRES, REDIS, skipWithoutPostgres, skipWithoutRedis, skipWithoutSqlite, uniqueName
} from '../support/services.ts'
import { until } from '../support/until.ts'
import type { AddressInfo, Socket } from 'node:net'
import type { Test } from 'tap'
import type { Store } from '../../types/store.ts'

interface Backend {
  skip: string | false
  /** An empty store. The test removes its entries at the end. */
  open: (t: Test) => Promise<Store>
  /** An address under which another process finds the same store. */
  address?: (t: Test) => Promise<{ url: string, options: object }>
}

async function dropTable (table: string): Promise<void> {
  const client = new pg.Client({ connectionString: POSTGRES })
  await client.connect()
  await client.query(`DROP TABLE IF EXISTS ${table}`)
  await client.end()
}

async function dropKeys (prefix: string): Promise<void> {
  const client = new Redis(REDIS)
  const keys = await client.keys(`{${prefix}}*`)
  if (keys.length > 0) await client.del(...keys)
  client.disconnect()
}

const backends: Record<string, Backend> = {
  memory: { skip: false, open: async () => await openStore('memory:') },
  sqlite: {
    skip: skipWithoutSqlite,
    open: async (t) => await openStore(`sqlite:${join(t.testdir(), 'oidc.db')}`),
    address: async (t) => ({ url: 'sqlite', options: { path: join(t.testdir({}), 'shared.db') } })
  },
  'sqlite, by the caller\'s own database': {
    skip: skipWithoutSqlite,
    async open (t) {
      const database = await openDatabase(':memory:')
      t.teardown(() => database.close())
      return await createSqliteStore({ database })
    }
  },
  postgres: {
    skip: skipWithoutPostgres,
    async open (t) {
      const table = uniqueName()
      t.teardown(async () => await dropTable(table))
      return await createPostgresStore({ url: POSTGRES, table })
    },
    async address (t) {
      const table = uniqueName()
      t.teardown(async () => await dropTable(table))
      return { url: 'postgres', options: { url: POSTGRES, table } }
    }
  },
  'postgres, by the caller\'s own pool': {
    skip: skipWithoutPostgres,
    async open (t) {
      const table = uniqueName()
      const pool = new pg.Pool({ connectionString: POSTGRES })
      t.teardown(async () => {
        await pool.end()
        await dropTable(table)
      })
      return await createPostgresStore({ pool, table })
    }
  },
  redis: {
    skip: skipWithoutRedis,
    async open (t) {
      const prefix = uniqueName()
      t.teardown(async () => await dropKeys(prefix))
      return await createRedisStore({ url: REDIS, prefix })
    },
    async address (t) {
      const prefix = uniqueName()
      t.teardown(async () => await dropKeys(prefix))
      return { url: 'redis', options: { url: REDIS, prefix } }
    }
  },
  'redis, by the caller\'s own client': {
    skip: skipWithoutRedis,
    async open (t) {
      const prefix = uniqueName()
      const client = new Redis(REDIS)
      t.teardown(async () => {
        client.disconnect()
        await dropKeys(prefix)
      })
      return await createRedisStore({ client, prefix })
    }
  }
}

for (const [name, { skip, open }] of Object.entries(backends)) {
  t.test(name, { skip }, async (t) => {
    const names = storeContract(async () => createMemoryStore()).map(({ name }) => name)
    for (const name of names) {
      await t.test(name, async (t) => {
        const [test] = storeContract(async () => await open(t)).filter((test) => test.name === name)
        await test?.run()
        t.pass()
      })
    }

    await t.test('expiry is to the second, by the clock of the application', async (t) => {
      const clock = stopClock(t)
      const store = await open(t)
      await store.set('key', 'value', { expiresAt: now() + 10, tags: ['tag'] })
      clock.advance(9)
      t.equal(await store.get('key'), 'value')
      clock.advance(1)
      t.same([await store.get('key'), await store.list('tag'), await store.take('key')], [null, [], null])
      await store.close()
    })
  })
}

const sources = compile(t)
const child = (module: string, options: object): string => `
import { create${module}Store } from ${JSON.stringify(pathToFileURL(join(sources, `lib/store/${module.toLowerCase()}.js`)).href)}
const store = await create${module}Store(${JSON.stringify(options)})
const wins = { created: 0, taken: 0 }
for (let index = 0; index < 40; index++) {
  if (await store.create('race-' + index, 'x', { expiresAt: 9e9, tags: ['race'] })) wins.created++
  if (await store.take('taken-' + index) !== null) wins.taken++
}
console.log(JSON.stringify(wins))
await store.close()
`

for (const [name, { skip, address }] of Object.entries(backends).filter(([, { address }]) => address !== undefined)) {
  t.test(`${name}: processes that start at the same moment, and race`, { skip }, async (t) => {
    const { url, options } = await (address as NonNullable<Backend['address']>)(t)
    const module = url.charAt(0).toUpperCase() + url.slice(1)
    const run = async (): Promise<{ created: number; taken: number }> => {
      const process_ = spawn(process.execPath, ['--input-type=module', '-e', child(module, options)], {
        stdio: ['ignore', 'pipe', 'inherit']
      })
      const chunks: Buffer[] = []
      process_.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
      const [code] = await once(process_, 'close')
      t.equal(code, 0)
      return JSON.parse(Buffer.concat(chunks).toString())
    }
    const first = await Promise.all([run(), run(), run()])
    t.equal(
      first.reduce((sum, { created }) => sum + created, 0),
      40,
      'each entry was created once'
    )
    const store =
      module === 'Sqlite'
        ? await createSqliteStore(options as { path: string })
        : module === 'Redis'
          ? await createRedisStore(options as { url: string })
          : await createPostgresStore(options as { url: string })
    t.equal((await store.list('race')).length, 40)
    for (let index = 0; index < 40; index++) await store.set(`taken-${index}`, 'x', { expiresAt: now() + 60 })
    await store.close()
    const second = await Promise.all([run(), run(), run()])
    t.equal(second.reduce((sum, { taken }) => sum + taken, 0), 40, 'each entry was taken once')
  })
}

/** A connection to a server that can be cut and restored. */
async function cuttable (
  t: Test,
  target: string,
  port: number
): Promise<{ url: string; cut: () => void; mend: () => void; hang: () => void }> {
  const url = new URL(target)
  const [host, realPort] = [url.hostname, url.port === '' ? port : Number(url.port)]
  const sockets = new Set<Socket>()
  let state: 'through' | 'cut' | 'hangs' = 'through'
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {}).on('close', () => sockets.delete(socket))
    if (state === 'cut') return socket.destroy()
    if (state === 'hangs') return
    const upstream = connect(realPort, host).on('error', () => {})
    sockets.add(upstream)
    upstream.on('close', () => { sockets.delete(upstream); socket.destroy() })
    socket.on('close', () => upstream.destroy())
    socket.pipe(upstream).pipe(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const drop = (): void => { for (const socket of sockets) socket.destroy() }
  t.teardown(() => { drop(); server.close() })
  url.hostname = '127.0.0.1'
  url.port = String((server.address() as AddressInfo).port)
  return {
    url: url.href,
    cut: () => {
      state = 'cut'
      drop()
    },
    hang: () => {
      state = 'hangs'
      drop()
    },
    mend: () => {
      state = 'through'
      drop()
    }
  }
}

for (const [name, skip, target, port] of [
  ['postgres', skipWithoutPostgres, POSTGRES, 5432],
  ['redis', skipWithoutRedis, REDIS, 6379]
] as const) {
  t.test(`R18 ${name}: a server that is gone, or does not answer, is an error, and the store works when it is back`, { skip }, async (t) => {
    const place = uniqueName()
    t.teardown(async () => await (name === 'postgres' ? dropTable(place) : dropKeys(place)))
    const way = await cuttable(t, target, port)
    const store =
      name === 'postgres'
        ? await createPostgresStore({ url: way.url, table: place })
        : await createRedisStore({ url: way.url, prefix: place })
    t.teardown(async () => await store.close())
    way.cut()
    await t.rejects(store.get('key'), 'unavailable from the start')
    way.mend()
    await until(async () => await succeeds(store.set('key', 'value', { expiresAt: now() + 60 })))
    t.equal(await store.get('key'), 'value')
    for (const [trouble, reason] of [[way.cut, /./], [way.hang, /time|terminated/]] as const) {
      trouble()
      await t.rejects(store.get('key'), { message: reason })
      await t.rejects(store.create('key', 'x', { expiresAt: now() + 60 }), { message: reason })
      way.mend()
      await until(async () => await succeeds(store.get('key')))
      t.equal(await store.get('key'), 'value', 'without a restart')
    }
  })
}

async function succeeds (work: Promise<unknown>): Promise<boolean> {
  return await work.then(() => true, () => false)
}

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
    await t.rejects(store.set('key', 'another', { expiresAt: now() + 60 }), /locked/, 'the wait for the lock ends')
    other.exec('COMMIT')
  }
)
