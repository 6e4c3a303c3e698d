import { OidcError } from '../errors.ts'
import { now } from '../util/time.ts'
import { openPool } from './postgres-pool.ts'
import { prepareTable, warningsOf } from './postgres-table.ts'
import { listByKey, listByTag } from './postgres-list.ts'
import { removeInSteps } from './purge.ts'
import type { Store, StoreEntry } from '../../types/store.ts'
import type { PostgresPool } from './postgres-pool.ts'
import type { Table } from './postgres-table.ts'

export type { PostgresPool } from './postgres-pool.ts'

/** Options of `createPostgresStore`: an address, or a pool of the application, which `close` leaves open. */
export type PostgresStoreOptions = ({ url: string } | { pool: PostgresPool }) & {
  /** Default: `oidc_entries`. */
  table?: string
}

/** How many entries one statement removes. */
const PURGE_STEP = 500
/** The SQLSTATE of a table that is not there. */
const UNDEFINED_TABLE = '42P01'

/**
 * A store in PostgreSQL. It creates its table if there is none. Throws FST_OIDC_OPTION if the package `pg` is missing.
 */
export async function createPostgresStore (options: PostgresStoreOptions): Promise<Store> {
  const { table = 'oidc_entries' } = options
  if (!/^[a-z_][a-z0-9_]{0,40}$/.test(table)) {
    throw new OidcError('FST_OIDC_OPTION', { message: '"table" must consist of lower-case letters, digits and "_"' })
  }
  if (!('url' in options)) return storeOf(options.pool, table, undefined)
  const pool = await openPool(options.url)
  return storeOf(pool, table, async () => await pool.end())
}

/** `end` closes a pool of the store's own. */
function storeOf (pool: PostgresPool, table: string, end: (() => Promise<void>) | undefined): Store {
  let ready: Promise<Table> | undefined

  /** Looks for the table before the first query. If that fails, the next query looks again. */
  async function prepare (): Promise<Table> {
    ready ??= prepareTable(pool, table)
    return await ready.catch((error: unknown) => {
      ready = undefined
      throw error
    })
  }

  async function query <T> (text: string, values: unknown[]): Promise<{ rows: T[], rowCount: number }> {
    await prepare()
    const run = async () => await pool.query(text, values) as { rows: T[], rowCount: number }
    return await run().catch(async (error: { code?: string }) => {
      if (error.code !== UNDEFINED_TABLE) throw error
      // The table was dropped, perhaps in order to restore it.
      ready = undefined
      await prepare()
      return await run()
    })
  }

  const insert = `INSERT INTO ${table} AS t (key, value, expires_at, tags) VALUES ($1, $2, $3, $4)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at, tags = excluded.tags`

  return {
    async get (key) {
      const { rows } = await query<{ value: string }>(
        `SELECT value FROM ${table} WHERE key = $1 AND expires_at > $2`,
        [key, now()]
      )
      return rows[0]?.value ?? null
    },

    async has (key) {
      const { rowCount } = await query(`SELECT FROM ${table} WHERE key = $1 AND expires_at > $2`, [key, now()])
      return rowCount === 1
    },

    async set (key, value, { expiresAt, tags = [] }) {
      await query(insert, [key, value, expiresAt, tags])
    },

    async create (key, value, { expiresAt, tags = [] }) {
      const { rowCount } = await query(`${insert} WHERE t.expires_at <= $5`, [key, value, expiresAt, tags, now()])
      return rowCount === 1
    },

    async replace (key, expected, value, expiresAt) {
      const { rowCount } = await query(
        `UPDATE ${table} SET value = $3, expires_at = $4 WHERE key = $1 AND value = $2 AND expires_at > $5`,
        [key, expected, value, expiresAt, now()]
      )
      return rowCount === 1
    },

    async take (key) {
      const { rows } = await query<{ value: string, living: boolean }>(
        `DELETE FROM ${table} WHERE key = $1 RETURNING value, expires_at > $2 AS living`,
        [key, now()]
      )
      return rows[0]?.living === true ? rows[0].value : null
    },

    async list (tag, { limit = 1000, after = '' } = {}) {
      const { hasTagIndexes } = await prepare()
      const text = hasTagIndexes ? listByKey(table) : listByTag(table)
      const { rows } = await query<StoreEntry>(text, [tag, now(), after, limit])
      return rows
    },

    // SKIP LOCKED: an entry that is being written is not removed, and several processes can purge at once.
    async purge ({ limit = Infinity } = {}) {
      return await removeInSteps(limit, PURGE_STEP, async (count) => {
        const { rowCount } = await query(
          `WITH expired AS (
            SELECT key FROM ${table} WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
          )
          DELETE FROM ${table} AS t USING expired WHERE t.key = expired.key AND t.expires_at <= $1`,
          [now(), count]
        )
        return rowCount
      })
    },

    async countExpired (limit) {
      const { rows } = await query<{ count: string }>(
        `SELECT count(*) FROM (SELECT FROM ${table} WHERE expires_at <= $1 LIMIT $2) AS expired`,
        [now(), limit]
      )
      return Number(rows[0]?.count)
    },

    // Looks again: indexes may have been added, or lost when the table was restored.
    async warnings () {
      ready = undefined
      return warningsOf(table, await prepare(), end !== undefined)
    },

    close: async () => await end?.()
  }
}
