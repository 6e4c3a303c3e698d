import { OidcError } from '../errors.ts'
import { now } from '../util/time.ts'
import { absent } from '../util/absent.ts'
import { removeInSteps } from './purge.ts'
import type { Store, StoreEntry } from '../../types/store.ts'

/** The part of a pool that the store uses. The pools of `pg` and `@fastify/postgres` (`app.pg`) fit. */
export interface PostgresPool {
  query: (text: string, values?: unknown[]) => Promise<{ rows: unknown[], rowCount: number | null }>
}

/** Options of `createPostgresStore`: an address, or a pool of the application, which `close` leaves open. */
export type PostgresStoreOptions = ({ url: string } | { pool: PostgresPool }) & {
  /** Default: `oidc_entries`. */
  table?: string
}

/** How many entries one statement removes. */
const PURGE_STEP = 500
/** How long the database may take, in milliseconds. */
const TIMEOUT = 3000

/** A store in PostgreSQL. It creates its table. Throws FST_OIDC_OPTION if the package `pg` is missing. */
export async function createPostgresStore (options: PostgresStoreOptions): Promise<Store> {
  const { table = 'oidc_entries' } = options
  if (!/^[a-z_][a-z0-9_]{0,40}$/.test(table)) {
    throw new OidcError('FST_OIDC_OPTION', { message: '"table" must consist of lower-case letters, digits and "_"' })
  }
  if (!('url' in options)) return storeOf(options.pool, table, async () => {})
  const pool = await openPool(options.url)
  return storeOf(pool, table, async () => await pool.end())
}

interface OwnPool extends PostgresPool {
  end: () => Promise<void>
}

/** `load` imports the optional peer dependency. */
export async function openPool (
  url: string,
  load: () => Promise<unknown> = async () => await import('pg').catch(absent)
): Promise<OwnPool> {
  const module = await load() as { default: typeof import('pg') } | undefined
  if (module === undefined) {
    throw new OidcError('FST_OIDC_OPTION', { message: '"store" in PostgreSQL needs the package pg' })
  }
  const pool = new module.default.Pool({
    connectionString: url,
    connectionTimeoutMillis: TIMEOUT,
    query_timeout: TIMEOUT,
    allowExitOnIdle: true
  })
  pool.on('error', () => {}) // an idle connection broke: the next query fails too, or opens a new connection
  return pool
}

// PostgreSQL fails if several processes create the same table at the same time, so a lock serializes them.
const createTable = (table: string): string => `
DO $$ BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('fastify-oidc ${table}'));
  CREATE TABLE IF NOT EXISTS ${table} (key text PRIMARY KEY COLLATE "C", value text NOT NULL, expires_at bigint NOT NULL, tags text[] NOT NULL);
  CREATE INDEX IF NOT EXISTS ${table}_expires_at ON ${table} (expires_at);
  CREATE INDEX IF NOT EXISTS ${table}_tags ON ${table} USING gin (tags);
END $$`

function storeOf (pool: PostgresPool, table: string, close: () => Promise<void>): Store {
  let ready: Promise<unknown> | undefined

  /** Creates the table before the first query. If that fails, the next query tries it again. */
  async function query <T> (text: string, values: unknown[]): Promise<{ rows: T[], rowCount: number }> {
    ready ??= pool.query(createTable(table))
    await ready.catch((error: unknown) => {
      ready = undefined
      throw error
    })
    return await pool.query(text, values) as { rows: T[], rowCount: number }
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
      const { rows } = await query<StoreEntry>(
        `SELECT key, value FROM ${table} WHERE tags @> ARRAY[$1] AND expires_at > $2 AND key > $3 ORDER BY key LIMIT $4`,
        [tag, now(), after, limit]
      )
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

    close
  }
}
