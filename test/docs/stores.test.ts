import { randomBytes } from 'node:crypto'
import t from 'tap'
import { client, sessionCookie, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor } from '../support/app.ts'
import { openPage } from '../support/pages.ts'
import {
  POSTGRES, REDIS, skipWithoutPostgres, skipWithoutRedis, skipWithoutSqlite, uniqueName
} from '../support/services.ts'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { Provider } from '../../lib/testing/index.ts'

const page = openPage('docs/stores.md')
const SQLITE = 'sqlite:./oidc.db\', session'

interface World {
  provider: Provider
  app: FastifyInstance
}

/** The application of the block that has this text. */
async function startBlock (t: Test, text: string, change = (code: string) => code): Promise<World> {
  const provider = await startProvider({ users: [{ sub: 'alice', name: 'Alice', roles: ['admin'] }] })
  t.teardown(async () => await provider.close())
  const app = await page.run(t, text, { context: { options: optionsFor(provider), key: SESSION_KEY }, change })
  return { provider, app }
}

/** A logout counts for a copy of the cookies in another process, which has the store in common. */
async function testLogout (t: Test, world: World, app: FastifyInstance): Promise<void> {
  const browser = client({ app: world.app, baseUrl: BASE_URL })
  await browser.goto('/auth/login')
  const cookie = browser.cookies.header()
  const ask = async (): Promise<number> => (await app.inject({ url: '/me', headers: { cookie } })).statusCode
  t.equal(await ask(), 200)
  await browser.post('/auth/logout')
  t.equal(await ask(), 401)
}

t.test('sessions in the store', async (t) => {
  process.env['OIDC_STORE'] = 'memory:'
  const { app } = await startBlock(t, "'/log-out-everywhere'")
  const browsers = [client({ app, baseUrl: BASE_URL }), client({ app, baseUrl: BASE_URL })] as const
  for (const browser of browsers) t.equal((await browser.goto('/auth/login')).status, 404, 'there is no page at /')
  t.equal((await app.oidc.sessions.list({ sub: 'alice' })).length, 2)
  t.same((await browsers[0].fetch('/log-out-everywhere', { method: 'POST' })).json(), { ended: 2 })
  for (const browser of browsers) t.equal((await browser.fetch('/auth/session')).status, 401)
})

t.test('Redis', { skip: skipWithoutRedis }, async (t) => {
  process.env['REDIS_URL'] = REDIS
  const prefix = uniqueName()
  const change = (code: string): string => code.replace('my-app', prefix)
  const world = await startBlock(t, 'createRedisStore', change)
  const { createRedisStore } = await import('../../lib/store/redis.ts')
  const { Redis } = await import('ioredis')
  const redis = new Redis(REDIS)
  t.teardown(async () => {
    const keys = await redis.keys(`{${prefix}}*`)
    if (keys.length > 0) await redis.del(keys)
    await redis.quit()
  })
  const store = await createRedisStore({ client: redis, prefix })
  await testLogout(t, world, await buildApp(t, optionsFor(world.provider, { store })))
  t.ok((await redis.keys(`{${prefix}}:entry:*`)).length > 0)
})

t.test('PostgreSQL', { skip: skipWithoutPostgres }, async (t) => {
  process.env['DATABASE_URL'] = POSTGRES
  const table = uniqueName()
  const change = (code: string): string => code.replace('my_sessions', table)
  const world = await startBlock(t, 'createPostgresStore', change)
  const { createPostgresStore } = await import('../../lib/store/postgres.ts')
  const pool = new (await import('pg')).default.Pool({ connectionString: POSTGRES })
  t.teardown(async () => {
    await pool.query(`DROP TABLE IF EXISTS ${table}`)
    await pool.end()
  })
  const store = await createPostgresStore({ pool, table })
  await testLogout(t, world, await buildApp(t, optionsFor(world.provider, { store })))
})

t.test('the DDL of PostgreSQL is what the store wants', { skip: skipWithoutPostgres }, async (t) => {
  const { createPostgresStore } = await import('../../lib/store/postgres.ts')
  const pool = new (await import('pg')).default.Pool({ connectionString: POSTGRES })
  const table = uniqueName()
  t.teardown(async () => {
    await pool.query(`DROP TABLE IF EXISTS ${table}`)
    await pool.end()
  })
  const statements: string[] = []
  const query = async (text: string, values?: unknown[]) => {
    statements.push(text)
    return await pool.query(text, values)
  }
  const ddl = (text: string): string => page.blockWith(text).replaceAll('oidc_entries', table)
  await pool.query(ddl('CREATE TABLE'))
  const created = await createPostgresStore({ pool: { query }, table })
  t.same([await created.get('key'), await created.warnings?.()], [null, []])
  for (const place of [1, 2, 3, 4]) await pool.query(`DROP INDEX ${table}_tag${place}`)
  for (const statement of ddl('CONCURRENTLY').trim().split('\n')) await pool.query(statement)
  const migrated = await createPostgresStore({ pool: { query }, table })
  t.same([await migrated.list('tag'), await migrated.warnings?.()], [[], []])
  t.notMatch(statements.join(), /CREATE/, 'the store has nothing to add')
})

t.test('SQLite', { skip: skipWithoutSqlite }, async (t) => {
  const address = `sqlite:${t.testdir()}/oidc.db`
  const world = await startBlock(t, SQLITE, (code) => code.replace('sqlite:./oidc.db', address))
  const session = { key: SESSION_KEY, store: true }
  await testLogout(t, world, await buildApp(t, optionsFor(world.provider, { store: address, session })))
})

t.test('memory', async (t) => {
  const { app } = await startBlock(t, 'max: 20_000')
  const browser = client({ app, baseUrl: BASE_URL })
  await browser.goto('/auth/login')
  t.equal((await app.oidc.sessions.list({ sub: 'alice' })).length, 1)
})

t.test('the contract test', async (t) => {
  const { status, stdout } = page.runTests(t, ['storeContract'])
  t.equal(status, 0, stdout)
  t.match(stdout, /^ok 1 - my store: [^]*\n# pass 1\d\n/m)
})

t.test('the sessions of a user', async (t) => {
  const { app } = await startBlock(t, "'/admin/sessions/:sub'")
  const browser = client({ app, baseUrl: BASE_URL })
  await browser.goto('/auth/login')
  const cookie = sessionCookie(app, { claims: { sub: 'bob' } })
  t.match((await browser.fetch('/admin/sessions/bob')).json(), [{ sub: 'bob', provider: 'default' }])
  t.same((await browser.fetch('/admin/sessions/bob', { method: 'DELETE' })).json(), { ended: 1 })
  t.equal((await app.inject({ url: '/auth/session', headers: { cookie } })).statusCode, 401)
  t.equal((await browser.fetch('/auth/session')).status, 200)
  await t.rejects(app.oidc.sessions.revoke({ sub: undefined as never }), { code: 'FST_OIDC_OPTION' })
})

t.test('another session key', async (t) => {
  const newKey = randomBytes(32).toString('base64')
  process.env['OIDC_SESSION_KEYS'] = `${newKey} ${SESSION_KEY}`
  const { provider, app } = await startBlock(t, 'OIDC_SESSION_KEYS')
  const before = await buildApp(t, optionsFor(provider))
  const browser = await logIn({ app: before, provider }, 'alice')
  const cookie = browser.cookies.header()
  t.equal((await app.inject({ url: '/auth/session', headers: { cookie } })).statusCode, 200, 'the old key still opens')
  const after = await buildApp(t, optionsFor(provider, { session: { key: newKey } }))
  t.equal((await after.inject({ url: '/auth/session', headers: { cookie } })).statusCode, 401)
})

t.test('every block of code is tested above', async (t) => {
  const servers = [
    ['createRedisStore', skipWithoutRedis], ['createPostgresStore', skipWithoutPostgres], [SQLITE, skipWithoutSqlite]
  ] as const
  const skipped = servers.flatMap(([text, reason]) => reason === false ? [] : [page.blockWith(text)])
  t.same(page.untested(), skipped)
})
