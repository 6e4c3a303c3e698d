import { TIMEOUT } from './postgres-pool.ts'
import type { PostgresPool } from './postgres-pool.ts'

/** What the catalogue says of the table. */
export interface Table {
  exists: boolean
  /** Whether adding an index takes so little time that the writers can wait for it. */
  isSmall: boolean
  /** The names of the indexes that are missing. */
  missing: string[]
  /** Whether entries can be listed with the indexes of their tags. */
  hasTagIndexes: boolean
  /** What the server has as `statement_timeout` for this connection, in milliseconds; 0 is none. */
  statementTimeout: number
}

/** The places of an entry's tags: each has an index. */
export const TAGS = [1, 2, 3, 4] as const
/** The size of a small table, in bytes. */
const SMALL = 128 * 1024 ** 2
/**
 * How long DDL waits for a lock, in milliseconds. While it waits for the lock of a table, for example for a VACUUM to
 * end, every writer of the table waits behind it. A new table has no writers: there it waits for other processes that
 * start.
 */
const LOCK_TIMEOUT = 100
const CREATION_TIMEOUT = 2000

const tagIndex = (table: string, place: number): string => `${table}_tag${place}`

/** The indexes by name. docs/stores.md has the same for migrations. */
function indexesOf (table: string): Map<string, string> {
  return new Map([
    [`${table}_expires_at`, '(expires_at)'],
    ...TAGS.map((place): [string, string] => [
      tagIndex(table, place),
      `((tags[${place}] COLLATE "C"), key) WHERE tags[${place}] IS NOT NULL`
    ])
  ])
}

/**
 * Looks into the catalogue, and creates what is missing: the table, and the indexes unless the table is large. A role
 * that may not create them can use a table without the indexes, and a table of an earlier version.
 */
export async function prepareTable (pool: PostgresPool, table: string): Promise<Table> {
  const found = await readCatalogue(pool, table)
  if (!found.exists) await createTable(pool, table)
  else if (found.missing.length > 0 && found.isSmall) await tryToAddIndexes(pool, table, found.missing)
  else return found
  return await readCatalogue(pool, table)
}

/** What an operator should know. `isOwnPool`: the store has opened the connections itself. */
export function warningsOf (table: string, { missing, statementTimeout }: Table, isOwnPool: boolean): string[] {
  const isUnlimited = statementTimeout === 0 || statementTimeout > TIMEOUT
  return [
    ...(missing.length === 0
      ? []
      : [`the table ${table} has no valid index ${missing.join(', ')}: sessions are found slowly. docs/stores.md has ` +
        'the statements that create it']),
    ...(isOwnPool && isUnlimited
      ? ['the database does not end slow queries of the store: set statement_timeout = \'2500ms\' for its role, because ' +
        'a pooler such as PgBouncer does not let the store set it. See docs/stores.md']
      : [])
  ]
}

async function readCatalogue (pool: PostgresPool, table: string): Promise<Table> {
  const { rows } = await pool.query(`
SELECT to_regclass('${table}') IS NOT NULL AS is_there,
  coalesce(pg_relation_size(to_regclass('${table}')), 0) < ${SMALL} AS is_small,
  (SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout') AS statement_timeout,
  (
    SELECT string_agg(c.relname, ' ') FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = to_regclass('${table}') AND i.indisvalid
  ) AS indexes`)
  const [row] = rows as [{ is_there: boolean, is_small: boolean, statement_timeout: number, indexes: string | null }]
  const indexes = row.indexes?.split(' ') ?? []
  const missing = [...indexesOf(table).keys()].filter((name) => !indexes.includes(name))
  return {
    exists: row.is_there,
    isSmall: row.is_small,
    missing,
    hasTagIndexes: TAGS.every((place) => !missing.includes(tagIndex(table, place))),
    statementTimeout: row.statement_timeout
  }
}

// The store works without them, and says that they are missing.
async function tryToAddIndexes (pool: PostgresPool, table: string, names: readonly string[]): Promise<void> {
  await pool.query(ddl(table, addIndexes(table, names), LOCK_TIMEOUT)).catch(() => {})
}

async function createTable (pool: PostgresPool, table: string): Promise<void> {
  const statements = [
    `CREATE TABLE IF NOT EXISTS ${table} (
      key text PRIMARY KEY COLLATE "C", value text NOT NULL, expires_at bigint NOT NULL, tags text[] NOT NULL
    )`,
    ...addIndexes(table, [...indexesOf(table).keys()])
  ]
  try {
    await pool.query(ddl(table, statements, CREATION_TIMEOUT))
  } catch (cause) {
    const reason = `there is no table ${table}, and it could not be created (docs/stores.md has the statements)`
    throw new Error(`${reason}: ${(cause as Error).message}`, { cause })
  }
}

function addIndexes (table: string, names: readonly string[]): string[] {
  const indexes = indexesOf(table)
  return names.map((name) => `CREATE INDEX IF NOT EXISTS ${name} ON ${table} ${indexes.get(name) as string}`)
}

// PostgreSQL fails if several processes create the same table at the same time, so a lock serializes them.
function ddl (table: string, statements: readonly string[], lockTimeout: number): string {
  return `
DO $$ BEGIN
  PERFORM set_config('lock_timeout', '${lockTimeout}ms', true);
  PERFORM pg_advisory_xact_lock(hashtext('fastify-oidc ${table}'));
  ${statements.map((statement) => `${statement};`).join('\n  ')}
END $$`
}
