import pg from 'pg'
import t from 'tap'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { listByKey } from '../../lib/store/postgres-list.ts'
import { createPostgresStore } from '../../lib/store/postgres.ts'
import { storeContract } from '../../lib/testing/index.ts'
import { now } from '../../lib/util/time.ts'
import { startPgBouncer, skipWithoutPgBouncer } from '../support/pgbouncer.ts'
import { POSTGRES, skipWithoutPostgres, uniqueName } from '../support/services.ts'
import { until } from '../support/until.ts'
import type { Test } from 'tap'
import type { PostgresPool } from '../../lib/store/postgres.ts'
import type { Store } from '../../types/store.ts'

t.setTimeout(120_000) // where other work shares the cores

const server = new pg.Pool({ connectionString: POSTGRES, allowExitOnIdle: true })
const later = (): number => now() + 60

/** The name of a table that is not there, and is dropped at the end. */
function tableOf (t: Test): string {
  const table = uniqueName()
  t.teardown(async () => await server.query(`DROP TABLE IF EXISTS ${table}`))
  return table
}

/** A store with a pool that notes its statements. */
async function open (table: string, pool: PostgresPool = server): Promise<{ store: Store, statements: string[] }> {
  const statements: string[] = []
  const noting: PostgresPool = {
    async query (text, values) {
      statements.push(text)
      return await pool.query(text, values)
    }
  }
  return { statements, store: await createPostgresStore({ pool: noting, table }) }
}

const isDdl = (text: string): boolean => /CREATE/.test(text)

/** A role that may read and write the table, and create nothing. Returns a pool of it. */
async function weakRole (t: Test): Promise<{ role: string, pool: pg.Pool }> {
  const role = uniqueName()
  await server.query(`CREATE ROLE ${role} LOGIN`)
  const pool = new pg.Pool({ connectionString: POSTGRES, options: `-c role=${role}` })
  t.teardown(async () => {
    await pool.end()
    await server.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)
  })
  return { role, pool }
}

const grant = (table: string, role: string): string => `GRANT SELECT, INSERT, UPDATE, DELETE ON ${table} TO ${role}`

/** Locks the table in a transaction, as a VACUUM or an operator does. */
async function lock (t: Test, table: string, mode: string): Promise<() => Promise<void>> {
  const client = new pg.Client({ connectionString: POSTGRES })
  await client.connect()
  let isOpen = true
  const release = async (): Promise<void> => {
    if (isOpen) await client.end()
    isOpen = false
  }
  t.teardown(release)
  await client.query(`BEGIN; LOCK TABLE ${table} IN ${mode} MODE`)
  return release
}

/** How many queries wait for a lock of the table. */
async function waiting (table: string): Promise<number> {
  const { rowCount } = await server.query('SELECT FROM pg_locks WHERE relation = $1::regclass AND NOT granted', [table])
  return rowCount as number
}

/** A table as version 0.1.0 made it, with an entry that has two tags, and one that has expired. */
async function createFormerTable (table: string): Promise<void> {
  await server.query(`
DO $$ BEGIN
  CREATE TABLE IF NOT EXISTS ${table} (key text PRIMARY KEY COLLATE "C", value text NOT NULL, expires_at bigint NOT NULL, tags text[] NOT NULL);
  CREATE INDEX IF NOT EXISTS ${table}_expires_at ON ${table} (expires_at);
  CREATE INDEX IF NOT EXISTS ${table}_tags ON ${table} USING gin (tags);
END $$;
INSERT INTO ${table} VALUES ('old', 'value', ${later()}, '{one,two}'), ('expired', 'value', ${now() - 1}, '{two}')`)
}

t.test('the store in PostgreSQL', { skip: skipWithoutPostgres }, async (t) => {
  await t.test('a start looks into the catalogue, and runs DDL only when something is missing', async (t) => {
    const table = tableOf(t)
    const first = await open(table)
    await first.store.set('key', 'value', { expiresAt: later() })
    t.equal(first.statements.filter(isDdl).length, 1)
    const second = await open(table)
    t.equal(await second.store.get('key'), 'value')
    t.same(second.statements.filter(isDdl), [])
    t.same(await second.store.warnings?.(), [])
    await server.query(`DROP INDEX ${table}_tag2`)
    const third = await open(table)
    t.equal(await third.store.get('key'), 'value')
    t.match(third.statements.filter(isDdl), [/CREATE INDEX IF NOT EXISTS \w+_tag2 /])
    t.notMatch(third.statements.filter(isDdl), [/CREATE TABLE|_tag1/])
  })

  await t.test('a start during VACUUM stops no writes', async (t) => {
    const table = tableOf(t)
    const running = await createPostgresStore({ pool: server, table })
    await running.set('key', 'value', { expiresAt: later(), tags: ['tag'] })
    for (const change of ['SELECT 1', `DROP INDEX ${table}_tag1`]) {
      await server.query(change)
      const release = await lock(t, table, 'SHARE UPDATE EXCLUSIVE')
      const starting = await createPostgresStore({ pool: server, table })
      const [listed] = await Promise.all([
        starting.list('tag'), ...[1, 2, 3].map(async () => await running.set('key', 'value', { expiresAt: later(), tags: ['tag'] }))
      ])
      t.match(listed, [{ key: 'key', value: 'value' }], change)
      await starting.set('key', 'value', { expiresAt: later(), tags: ['tag'] })
      const warnings = await starting.warnings?.()
      if (change === 'SELECT 1') t.same(warnings, [])
      else t.match(warnings, [/has no valid index \w+_tag1: /])
      await release()
      t.same(await starting.warnings?.(), [], 'what is missing is created when the lock is free')
    }
  })

  await t.test('a table of the version before: its entries count, and it gets the indexes', async (t) => {
    const table = tableOf(t)
    await createFormerTable(table)
    const { store, statements } = await open(table)
    t.equal(await store.get('old'), 'value')
    t.match(statements.filter(isDdl), [/_tag1 .*_tag2 .*_tag3 .*_tag4 /s])
    t.notMatch(statements.filter(isDdl), [/CREATE TABLE|_expires_at/])
    for (const tag of ['one', 'two']) t.same(await store.list(tag), [{ key: 'old', value: 'value' }])
    t.equal(await store.replace('old', 'value', 'new', later()), true)
    t.same(await store.list('two'), [{ key: 'old', value: 'new' }])
    t.equal(await store.purge(), 1)
    t.equal(await store.take('old'), 'new')
  })

  await t.test('a large table of the version before is not locked for indexes: the log names them', async (t) => {
    const statements: string[] = []
    const row = { is_there: true, is_small: false, statement_timeout: 0, indexes: 'x_pkey x_expires_at x_tags' }
    const pool: PostgresPool = {
      async query (text) {
        statements.push(text)
        return { rows: /to_regclass/.test(text) ? [row] : [{ key: 'key', value: 'value' }], rowCount: 1 }
      }
    }
    const store = await createPostgresStore({ pool, table: 'x' })
    t.same(await store.list('tag'), [{ key: 'key', value: 'value' }])
    t.match(statements.at(-1), /tags @> /, 'with the index that it has')
    t.same(statements.filter(isDdl), [])
    t.match(await store.warnings?.(), [/no valid index x_tag1, x_tag2, x_tag3, x_tag4: /])
  })

  await t.test('a role without CREATE', async (t) => {
    const table = tableOf(t)
    const { role, pool } = await weakRole(t)
    const { store, statements } = await open(table, pool)
    await t.rejects(store.get('key'), { message: new RegExp(`there is no table ${table}, .*docs/stores\\.md.*permission denied`) })
    await createFormerTable(table)
    await server.query(grant(table, role))
    t.equal(await store.get('old'), 'value', 'it works as soon as the table is there')
    t.match(await store.list('two'), [{ key: 'old' }])
    t.match(await store.warnings?.(), [/no valid index/])
    await server.query(`DROP TABLE ${table}`)
    await (await createPostgresStore({ pool: server, table })).get('key')
    await server.query(grant(table, role))
    t.same(await store.warnings?.(), [])
    statements.length = 0
    await store.set('key', 'value', { expiresAt: later(), tags: ['two'] })
    t.same([await store.list('two'), await store.purge(), await store.take('key')], [[{ key: 'key', value: 'value' }], 0, 'value'])
    t.same(statements.filter(isDdl), [])
  })

  await t.test('a table that was dropped, or restored from a backup', async (t) => {
    const table = tableOf(t)
    const { store } = await open(table)
    await store.set('key', 'value', { expiresAt: later(), tags: ['tag'] })
    await server.query(`DROP TABLE ${table}`)
    t.same(await Promise.all([store.get('key'), store.list('tag'), store.take('x')]), [null, [], null])
    await store.set('key', 'lost', { expiresAt: later() })
    await server.query(`DROP TABLE ${table}`)
    await createFormerTable(table)
    t.equal(await store.get('old'), 'value')
    t.match(await store.list('two'), [{ key: 'old' }])
    t.same(await store.warnings?.(), [], 'the next upkeep adds the indexes')
    t.match(await store.list('two'), [{ key: 'old' }])
  })

  await t.test('listing reads the entries of a page, whatever the statistics say', async (t) => {
    const table = tableOf(t)
    const store = await createPostgresStore({ pool: server, table })
    await store.get('key')
    const fill = async (first: number, tags: string): Promise<void> => {
      await server.query(`INSERT INTO ${table}
        SELECT 'key' || i, repeat('x', 50), ${later()}, ${tags} FROM generate_series(${first}, ${first + 4999}) AS i`)
    }
    // The planner believes that the tag is rare, or that nearly every entry has it.
    for (const [before, after] of [["'{other}'", "'{a,tag}'"], ["'{tag}'", "'{b,c,other}'"]] as const) {
      await server.query(`TRUNCATE ${table}`)
      await server.query(`ALTER TABLE ${table} SET (autovacuum_enabled = false)`)
      await fill(10_000, before)
      await store.set('key0', 'x', { expiresAt: later(), tags: ['tag'] })
      await server.query(`ANALYZE ${table}`)
      await fill(20_000, after)
      const { rows } = await server.query<{ 'QUERY PLAN': string }>(
        `EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, COSTS OFF) ${listByKey(table)}`, ['tag', now(), '', 100]
      )
      const plan = rows.map((row) => row['QUERY PLAN']).join('\n')
      const scans = plan.match(/\w+ Scan (?:Backward )?using \w+ on \w+|(?:Seq|Bitmap Heap) Scan on \w+/g) ?? []
      t.same([...new Set(scans)].sort(), [1, 2, 3, 4].map((place) => `Index Scan using ${table}_tag${place} on ${table}`), plan)
      const buffers = /Buffers: shared hit=(\d+)/.exec(plan)?.[1]
      t.ok(Number(buffers) < 2000, `it has read ${buffers} buffers of some 300 entries`)
    }
    const keys: string[] = []
    for (let page = await store.list('tag', { limit: 999 }); page.length > 0;) {
      keys.push(...page.map(({ key }) => key))
      page = await store.list('tag', { limit: 999, after: keys.at(-1) as string })
    }
    t.equal(keys.length, 5001)
    t.same(keys, [...new Set(keys)].sort())
  })

  await t.test('an entry has a tag at any of four places, and is listed once', async (t) => {
    const store = await createPostgresStore({ pool: server, table: tableOf(t) })
    const others = ['a', 'b', 'c', 'zz']
    for (let place = 0; place < 4; place++) {
      const tags = [...others.slice(0, place), 'tag', ...others.slice(place)].slice(0, 4)
      await store.set(`key-${place}`, 'x', { expiresAt: later(), tags })
    }
    await store.set('twice', 'x', { expiresAt: later(), tags: ['tag', 'x', 'tag'] })
    await store.set('over', 'x', { expiresAt: now(), tags: ['tag'] })
    const keys = async (options?: { limit?: number, after?: string }): Promise<string[]> =>
      (await store.list('tag', options)).map(({ key }) => key)
    t.same(await keys(), ['key-0', 'key-1', 'key-2', 'key-3', 'twice'])
    t.same(await keys({ limit: 2 }), ['key-0', 'key-1'])
    t.same(await keys({ limit: 2, after: 'key-1' }), ['key-2', 'key-3'])
  })

  await t.test('a purge goes in steps, waits for no other, and leaves what becomes valid meanwhile', async (t) => {
    const table = tableOf(t)
    const { store, statements } = await open(table)
    await store.get('key')
    await server.query(`INSERT INTO ${table} SELECT 'key' || i, 'x', ${now() - 1}, '{}' FROM generate_series(1, 1200) AS i`)
    const client = new pg.Client({ connectionString: POSTGRES })
    await client.connect()
    await client.query(`BEGIN; UPDATE ${table} SET expires_at = ${later()} WHERE key = 'key7'`)
    t.same([await store.countExpired?.(2000), await store.countExpired?.(10)], [1200, 10])
    t.equal(await store.purge({ limit: 100 }), 100)
    statements.length = 0
    t.equal(await store.purge(), 1099)
    t.equal(statements.length, 3)
    await client.query('COMMIT')
    await client.end()
    t.same([await store.purge(), await store.get('key7')], [0, 'x'])
  })

  /** A store by its address, whose connections have a name, and the number of those connections. */
  async function openNamed (t: Test) {
    const [table, name] = [tableOf(t), uniqueName()]
    const url = new URL(POSTGRES)
    url.searchParams.set('application_name', name)
    const store = await createPostgresStore({ url: url.href, table })
    t.teardown(async () => await store.close())
    await store.set('key', 'value', { expiresAt: later() })
    const connections = async (): Promise<number> => {
      const { rowCount } = await server.query('SELECT FROM pg_stat_activity WHERE application_name = $1', [name])
      return rowCount as number
    }
    return { store, table, name, connections }
  }

  await t.test('slow queries do not add connections: the server ends them, and the connections stay', async (t) => {
    const { store, table, connections } = await openNamed(t)
    const release = await lock(t, table, 'ACCESS EXCLUSIVE')
    const tenAtOnce = async () => await Promise.allSettled(Array.from({ length: 10 }, async () => await store.get('key')))
    for (const { status, reason } of await tenAtOnce() as PromiseRejectedResult[]) {
      t.match([status, reason], ['rejected', { code: '57014', message: /statement timeout/ }])
    }
    t.equal(await connections(), 10)
    const next = tenAtOnce()
    await until(async () => await waiting(table) === 10)
    t.equal(await connections(), 10)
    await release()
    t.same(await next, Array(10).fill({ status: 'fulfilled', value: 'value' }))
    t.equal(await connections(), 10)
  })

  await t.test('a connection that breaks during a query is an error of that query only', async (t) => {
    const { store, table, name } = await openNamed(t)
    const release = await lock(t, table, 'ACCESS EXCLUSIVE')
    const queries = Promise.allSettled([store.get('key'), store.get('key')])
    await until(async () => await waiting(table) === 2)
    await server.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1', [name])
    t.match(await queries, [{ status: 'rejected' }, { status: 'rejected' }])
    await release()
    t.equal(await store.get('key'), 'value')
  })
})

t.test('PgBouncer in transaction mode', { skip: skipWithoutPgBouncer }, async (t) => {
  const role = uniqueName()
  await server.query(`CREATE ROLE ${role} LOGIN; GRANT ALL ON SCHEMA public TO ${role}`)
  t.teardown(async () => await server.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`))
  const { url } = await startPgBouncer(t, role)
  for (const name of storeContract(async () => createMemoryStore()).map(({ name }) => name)) {
    const table = uniqueName()
    const tests = storeContract(async () => await createPostgresStore({ url, table }))
    const test = tests.find((test) => test.name === name)
    await test?.run()
    t.pass(name)
  }
  const store = await createPostgresStore({ url, table: uniqueName() })
  t.teardown(async () => await store.close())
  t.match(await Promise.all([store.get('key'), store.get('key')]), [null, null])
  t.match(await store.warnings?.(), [/statement_timeout/])
  await server.query(`ALTER ROLE ${role} SET statement_timeout = '2500ms'`)
  await server.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1', [role])
  await until(async () => (await store.warnings?.().catch(() => ['it connects']))?.length === 0)
})
