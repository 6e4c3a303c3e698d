import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { createPostgresStore } from '../../lib/store/postgres.ts'
import { createRedisStore } from '../../lib/store/redis.ts'
import { createSqliteStore } from '../../lib/store/sqlite.ts'
import { now } from '../../lib/util/time.ts'
import { backends, dropKeys, dropTable } from '../support/backends.ts'
import { compile } from '../support/compile.ts'
import { POSTGRES, REDIS, skipWithoutPostgres, skipWithoutRedis, uniqueName } from '../support/services.ts'
import { until } from '../support/until.ts'
import type { AddressInfo, Socket } from 'node:net'
import type { Test } from 'tap'
import type { Backend } from '../support/backends.ts'

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
