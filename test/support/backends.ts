import { join } from 'node:path'
import { Redis } from 'ioredis'
import pg from 'pg'
import { openStore } from '../../lib/store/open.ts'
import { createPostgresStore } from '../../lib/store/postgres.ts'
import { createRedisStore } from '../../lib/store/redis.ts'
import { createSqliteStore, openDatabase } from '../../lib/store/sqlite.ts'
import { POSTGRES, REDIS, skipWithoutPostgres, skipWithoutRedis, skipWithoutSqlite, uniqueName } from './services.ts'
import type { Test } from 'tap'
import type { Store } from '../../types/store.ts'

export interface Backend {
  skip: string | false
  /** An empty store. The test removes its entries at the end. */
  open: (t: Test) => Promise<Store>
  /** An address under which another process finds the same store. */
  address?: (t: Test) => Promise<{ url: string, options: object }>
}

/** How many pairs of a tag and an entry the index of a store has, for some stores. */
export const indexSizes = new WeakMap<Store, () => Promise<number>>()

export async function dropTable (table: string): Promise<void> {
  const client = new pg.Client({ connectionString: POSTGRES })
  await client.connect()
  await client.query(`DROP TABLE IF EXISTS ${table}`)
  await client.end()
}

export async function dropKeys (prefix: string): Promise<void> {
  const client = new Redis(REDIS)
  const keys = await client.keys(`{${prefix}}*`)
  if (keys.length > 0) await client.del(...keys)
  client.disconnect()
}

export const backends: Record<string, Backend> = {
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
      const store = await createSqliteStore({ database })
      const count = database.prepare('SELECT count(*) AS count FROM oidc_tags')
      indexSizes.set(store, async () => (count.get() as { count: number }).count)
      return store
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
      const store = await createPostgresStore({ pool, table })
      const count = `SELECT coalesce(sum(cardinality(tags)), 0)::int AS count FROM ${table}`
      indexSizes.set(store, async () => (await pool.query<{ count: number }>(count)).rows[0]?.count as number)
      return store
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
