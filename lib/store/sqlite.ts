import { OidcError } from '../errors.ts'
import { now } from '../util/time.ts'
import { absent } from '../util/absent.ts'
import { removeInSteps } from './purge.ts'
import { createLockTurns } from './sqlite-lock.ts'
import type { Store, StoreEntry } from '../../types/store.ts'
import type { LockTurns } from './sqlite-lock.ts'

/** The part of a database that the store uses. `node:sqlite` (`DatabaseSync`) and `better-sqlite3` (`Database`) fit. */
export interface SqliteDatabase {
  exec: (sql: string) => unknown
  prepare: (sql: string) => SqliteStatement
  close: () => unknown
}

export interface SqliteStatement {
  run: (...parameters: never[]) => { changes: number | bigint }
  get: (...parameters: never[]) => unknown
  all: (...parameters: never[]) => unknown[]
}

/**
 * Options of `createSqliteStore`: a file, or a database of the application, which `close` leaves open. The store sets
 * its `busy_timeout` to 0: statements of the application on the same connection do not wait for a lock either.
 */
export type SqliteStoreOptions = { path: string } | { database: SqliteDatabase }

const SCHEMA = `
PRAGMA busy_timeout = 0;
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS oidc_entries (key TEXT PRIMARY KEY, value TEXT NOT NULL, expires_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS oidc_entries_expires_at ON oidc_entries (expires_at);
CREATE TABLE IF NOT EXISTS oidc_tags (tag TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (tag, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS oidc_tags_key ON oidc_tags (key);
CREATE TRIGGER IF NOT EXISTS oidc_entries_removed AFTER DELETE ON oidc_entries BEGIN DELETE FROM oidc_tags WHERE key = OLD.key; END;
`
/** How many entries one statement removes. */
const PURGE_STEP = 200

/** A store in a file, for the processes of one computer. Throws FST_OIDC_OPTION if there is no driver. */
export async function createSqliteStore (options: SqliteStoreOptions): Promise<Store> {
  const database = 'database' in options ? options.database : await openDatabase(options.path)
  const whenUnlocked = createLockTurns()
  const statements = await whenUnlocked(() => {
    database.exec(SCHEMA)
    return prepareStatements(database)
  })
  return storeOf(database, statements, whenUnlocked, 'path' in options)
}

type Driver = Record<string, new (path: string) => SqliteDatabase>

const DRIVERS = [['node:sqlite', 'DatabaseSync'], ['better-sqlite3', 'default']] as const

/** Tries the drivers in their order: first that of Node.js, then the optional peer dependency. */
export async function openDatabase (
  path: string,
  drivers: ReadonlyArray<readonly [string, string]> = DRIVERS
): Promise<SqliteDatabase> {
  for (const [name, member] of drivers) {
    const driver = await import(name).catch(absent) as Driver | undefined
    const Database = driver?.[member]
    if (Database !== undefined) return new Database(path)
  }
  throw new OidcError('FST_OIDC_OPTION', {
    message: '"store" in SQLite needs Node.js 22.13 or newer, or the package better-sqlite3'
  })
}

type Statements = ReturnType<typeof prepareStatements>

function prepareStatements (database: SqliteDatabase) {
  const sql = (text: string): SqliteStatement => database.prepare(text)
  return {
    get: sql('SELECT value FROM oidc_entries WHERE key = ? AND expires_at > ?'),
    insert: sql('INSERT INTO oidc_entries (key, value, expires_at) VALUES (?, ?, ?)'),
    tag: sql('INSERT INTO oidc_tags (tag, key) VALUES (?, ?) ON CONFLICT DO NOTHING'),
    remove: sql('DELETE FROM oidc_entries WHERE key = ?'),
    replace: sql('UPDATE oidc_entries SET value = ?, expires_at = ? WHERE key = ? AND value = ? AND expires_at > ?'),
    // CROSS JOIN: the index of the tags comes first, whatever ANALYZE has found.
    list: sql(
      `SELECT e.key, e.value FROM oidc_tags t CROSS JOIN oidc_entries e ON e.key = t.key
       WHERE t.tag = ? AND t.key > ? AND e.expires_at > ? ORDER BY t.key LIMIT ?`
    ),
    purge: sql('DELETE FROM oidc_entries WHERE key IN (SELECT key FROM oidc_entries WHERE expires_at <= ? LIMIT ?)'),
    count: sql('SELECT count(*) AS count FROM (SELECT 1 FROM oidc_entries WHERE expires_at <= ? LIMIT ?)')
  }
}

function storeOf (database: SqliteDatabase, statements: Statements, whenUnlocked: LockTurns, isOwn: boolean): Store {
  const run = (statement: SqliteStatement, ...parameters: unknown[]): number =>
    Number(statement.run(...(parameters as never[])).changes)
  const row = <T>(statement: SqliteStatement, ...parameters: unknown[]): T | undefined =>
    statement.get(...(parameters as never[])) as T | undefined
  const all = <T>(statement: SqliteStatement, ...parameters: unknown[]): T[] =>
    statement.all(...(parameters as never[])) as T[]
  const valueOf = (key: string): string | null => row<{ value: string }>(statements.get, key, now())?.value ?? null

  /** Runs all statements of `work` or none, while no other process writes. */
  async function transaction<T> (work: () => T): Promise<T> {
    return await whenUnlocked(() => {
      database.exec('BEGIN IMMEDIATE')
      try {
        const result = work()
        database.exec('COMMIT')
        return result
      } catch (error) {
        rollBack()
        throw error
      }
    })
  }

  // After some errors, such as a full disk, SQLite has rolled back itself. That is no news: the first error is.
  function rollBack (): void {
    try {
      database.exec('ROLLBACK')
    } catch {}
  }

  function write (key: string, value: string, expiresAt: number, tags: readonly string[]): void {
    run(statements.remove, key)
    run(statements.insert, key, value, expiresAt)
    for (const tag of tags) run(statements.tag, tag, key)
  }

  return {
    get: async (key) => await whenUnlocked(() => valueOf(key)),

    has: async (key) => await whenUnlocked(() => valueOf(key)) !== null,

    set: async (key, value, { expiresAt, tags = [] }) =>
      await transaction(() => write(key, value, expiresAt, tags)),

    create: async (key, value, { expiresAt, tags = [] }) => await transaction(() => {
      if (valueOf(key) !== null) return false
      write(key, value, expiresAt, tags)
      return true
    }),

    replace: async (key, expected, value, expiresAt) =>
      (await whenUnlocked(() => run(statements.replace, value, expiresAt, key, expected, now()))) === 1,

    take: async (key) => await transaction(() => {
      const value = valueOf(key)
      run(statements.remove, key)
      return value
    }),

    async list (tag, { limit = 1000, after = '' } = {}) {
      const rows = await whenUnlocked(() => all<StoreEntry>(statements.list, tag, after, now(), limit))
      return rows.map(({ key, value }) => ({ key, value }))
    },

    async purge ({ limit = Infinity } = {}) {
      return await removeInSteps(limit, PURGE_STEP, async (count) =>
        await whenUnlocked(() => run(statements.purge, now(), count)))
    },

    countExpired: async (limit) =>
      await whenUnlocked(() => (row<{ count: number }>(statements.count, now(), limit) as { count: number }).count),

    async close () {
      if (isOwn) database.close()
    }
  }
}
