import { OidcError } from '../errors.ts'
import { now } from '../util/time.ts'
import type { Store, StoreEntry } from '../../types/store.ts'

/** What the store needs of a pool: that of `pg` has it, and `app.pg` of `@fastify/postgres`. */
export interface PostgresPool {
  query: (text: string, values?: unknown[]) => Promise<{ rows: unknown[], rowCount: number | null }>
}

/** Options of `createPostgresStore`: an address, or the caller's own pool, which stays open. */
export type PostgresStoreOptions = ({ url: string } | { pool: PostgresPool }) & {
  /** Default: `oidc_entries`. */
  table?: string
}

const PURGED_AT_ONCE = 1000
/** In milliseconds: whoever waits for a database that does not answer is to hear of it. */
const TIMEOUT = 3000

/** A store in PostgreSQL, which makes its table itself. Throws FST_OIDC_OPTION when the package `pg` is missing. */
export async function createPostgresStore (options: PostgresStoreOptions): Promise<Store> {
  const { table = 'oidc_entries' } = options
  if (!/^[a-z_][a-z0-9_]{0,40}$/.test(table)) {
    throw new OidcError('FST_OIDC_OPTION', { message: '"table" must be of small letters, digits and "_"' })
  }
  const own = 'url' in options ? await openPool(options.url) : undefined
  return storeOf(own ?? (options as { pool: PostgresPool }).pool, table, async () => await own?.end())
}

interface OwnPool extends PostgresPool {
  end: () => Promise<void>
}

/** `load` finds the optional peer. */
export async function openPool (
  url: string,
  load: () => Promise<unknown> = async () => await import('pg')
): Promise<OwnPool> {
  const module = (await load().catch(() => undefined)) as { default: typeof import('pg') } | undefined
  if (module === undefined) {
    throw new OidcError('FST_OIDC_OPTION', { message: '"store" in PostgreSQL needs the package pg' })
  }
  const pool = new module.default.Pool({
    connectionString: url,
    connectionTimeoutMillis: TIMEOUT,
    query_timeout: TIMEOUT,
    allowExitOnIdle: true
  })
  pool.on('error', () => {}) // a connection that broke while nobody used it; the next query says so if it is still so
  return pool
}

// Several processes that start at once would make the same table, which PostgreSQL does not like.
const createTable = (table: string): string => `
DO $$ BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('fastify-oidc ${table}'));
  CREATE TABLE IF NOT EXISTS ${table} (key text PRIMARY KEY COLLATE "C", value text NOT NULL, expires_at bigint NOT NULL, tags text[] NOT NULL);
  CREATE INDEX IF NOT EXISTS ${table}_expires_at ON ${table} (expires_at);
  CREATE INDEX IF NOT EXISTS ${table}_tags ON ${table} USING gin (tags);
END $$`

function storeOf (pool: PostgresPool, table: string, close: () => Promise<void>): Store {
  let ready: Promise<unknown> | undefined

  /** Makes the table before the first query; a database that is away then is asked again by the next one. */
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
      const { rows } = await query<{ value: string }>(`SELECT value FROM ${table} WHERE key = $1 AND expires_at > $2`, [
        key,
        now()
      ])
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
      const { rows } = await query<{ value: string; living: boolean }>(
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

    async purge () {
      let removed = 0
      let step = PURGED_AT_ONCE
      while (step === PURGED_AT_ONCE) {
        step = (
          await query(
            `DELETE FROM ${table} WHERE key IN (SELECT key FROM ${table} WHERE expires_at <= $1 LIMIT ${PURGED_AT_ONCE})`,
            [now()]
          )
        ).rowCount
        removed += step
      }
      return removed
    },

    close
  }
}
