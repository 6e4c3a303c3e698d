import { setTimeout as delay } from 'node:timers/promises'
import { OidcError } from '../errors.ts'
import { now } from '../util/time.ts'
import { absent } from '../util/absent.ts'
import { removeInSteps } from './purge.ts'
import type { Store, StoreEntry } from '../../types/store.ts'

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

/** Options of `createSqliteStore`: a file, or a database of the application, which `close` leaves open. */
export type SqliteStoreOptions = { path: string } | { database: SqliteDatabase }

const SCHEMA = `
PRAGMA busy_timeout = 10;
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS oidc_entries (key TEXT PRIMARY KEY, value TEXT NOT NULL, expires_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS oidc_entries_expires_at ON oidc_entries (expires_at);
CREATE TABLE IF NOT EXISTS oidc_tags (tag TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (tag, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS oidc_tags_key ON oidc_tags (key);
CREATE TRIGGER IF NOT EXISTS oidc_entries_removed AFTER DELETE ON oidc_entries BEGIN DELETE FROM oidc_tags WHERE key = OLD.key; END;
`
/** How many entries one statement removes. */
const PURGE_STEP = 200
/** How long another process may hold the lock, and the pause between two attempts, in milliseconds. */
const TIMEOUT = 3000
const PAUSE = 20

/** A store in a file, for the processes of one computer. Throws FST_OIDC_OPTION if there is no driver. */
export async function createSqliteStore (options: SqliteStoreOptions): Promise<Store> {
  const database = 'database' in options ? options.database : await openDatabase(options.path)
  await retryWhileLocked(() => database.exec(SCHEMA))
  return storeOf(database, 'path' in options)
}

// The driver is synchronous: if SQLite waited for the lock itself, it would block the whole process.
async function retryWhileLocked<T> (work: () => T): Promise<T> {
  const end = performance.now() + TIMEOUT
  for (;;) {
    try {
      return work()
    } catch (error) {
      if (!/database is locked/.test(String(error)) || performance.now() > end) throw error
      await delay(PAUSE)
    }
  }
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

function storeOf (database: SqliteDatabase, isOwn: boolean): Store {
  const sql = (text: string): SqliteStatement => database.prepare(text)
  const statements = {
    get: sql('SELECT value FROM oidc_entries WHERE key = ? AND expires_at > ?'),
    insert: sql('INSERT INTO oidc_entries (key, value, expires_at) VALUES (?, ?, ?)'),
    tag: sql('INSERT INTO oidc_tags (tag, key) VALUES (?, ?) ON CONFLICT DO NOTHING'),
    remove: sql('DELETE FROM oidc_entries WHERE key = ?'),
    replace: sql('UPDATE oidc_entries SET value = ?, expires_at = ? WHERE key = ? AND value = ? AND expires_at > ?'),
    list: sql(
      'SELECT e.key, e.value FROM oidc_tags t JOIN oidc_entries e ON e.key = t.key WHERE t.tag = ? AND t.key > ? AND e.expires_at > ? ORDER BY t.key LIMIT ?'
    ),
    purge: sql('DELETE FROM oidc_entries WHERE key IN (SELECT key FROM oidc_entries WHERE expires_at <= ? LIMIT ?)'),
    count: sql('SELECT count(*) AS count FROM (SELECT 1 FROM oidc_entries WHERE expires_at <= ? LIMIT ?)')
  }
  const run = (statement: SqliteStatement, ...parameters: unknown[]): number =>
    Number(statement.run(...(parameters as never[])).changes)
  const row = <T>(statement: SqliteStatement, ...parameters: unknown[]): T | undefined =>
    statement.get(...(parameters as never[])) as T | undefined
  const all = <T>(statement: SqliteStatement, ...parameters: unknown[]): T[] =>
    statement.all(...(parameters as never[])) as T[]
  const valueOf = (key: string): string | null => row<{ value: string }>(statements.get, key, now())?.value ?? null

  /** Runs all statements of `work` or none, while no other process writes. */
  async function transaction<T> (work: () => T): Promise<T> {
    return await retryWhileLocked(() => {
      database.exec('BEGIN IMMEDIATE')
      try {
        const result = work()
        database.exec('COMMIT')
        return result
      } catch (error) {
        database.exec('ROLLBACK')
        throw error
      }
    })
  }

  function write (key: string, value: string, expiresAt: number, tags: readonly string[]): void {
    run(statements.remove, key)
    run(statements.insert, key, value, expiresAt)
    for (const tag of tags) run(statements.tag, tag, key)
  }

  return {
    get: async (key) => await retryWhileLocked(() => valueOf(key)),

    has: async (key) => await retryWhileLocked(() => valueOf(key)) !== null,

    set: async (key, value, { expiresAt, tags = [] }) =>
      await transaction(() => write(key, value, expiresAt, tags)),

    create: async (key, value, { expiresAt, tags = [] }) => await transaction(() => {
      if (valueOf(key) !== null) return false
      write(key, value, expiresAt, tags)
      return true
    }),

    replace: async (key, expected, value, expiresAt) =>
      (await retryWhileLocked(() => run(statements.replace, value, expiresAt, key, expected, now()))) === 1,

    take: async (key) => await transaction(() => {
      const value = valueOf(key)
      run(statements.remove, key)
      return value
    }),

    async list (tag, { limit = 1000, after = '' } = {}) {
      const rows = await retryWhileLocked(() => all<StoreEntry>(statements.list, tag, after, now(), limit))
      return rows.map(({ key, value }) => ({ key, value }))
    },

    async purge ({ limit = Infinity } = {}) {
      return await removeInSteps(limit, PURGE_STEP, async (count) =>
        await retryWhileLocked(() => run(statements.purge, now(), count)))
    },

    countExpired: async (limit) =>
      await retryWhileLocked(() => (row<{ count: number }>(statements.count, now(), limit) as { count: number }).count),

    async close () {
      if (isOwn) database.close()
    }
  }
}
