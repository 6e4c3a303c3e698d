import pg from 'pg'
import t from 'tap'
import { createPostgresStore } from '../../lib/store/postgres.ts'
import { now } from '../../lib/util/time.ts'
import { POSTGRES, skipWithoutPostgres, uniqueName } from '../support/services.ts'
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

t.test('the store in PostgreSQL', { skip: skipWithoutPostgres }, async (t) => {
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
})
