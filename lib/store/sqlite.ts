import { setTimeout as delay } from 'node:timers/promises'
import { OidcError } from '../errors.ts'
import { now } from '../util/time.ts'
import type { Store } from '../../types/store.ts'

/** What the store needs of a database: `DatabaseSync` of `node:sqlite` and `Database` of `better-sqlite3` have it. */
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

/** Options of `createSqliteStore`: a file, or the caller's own database, which stays open. */
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
const PURGED_AT_ONCE = 1000
/** How long another process may hold the lock, and how long to wait between two tries, in milliseconds. */
const TIMEOUT = 3000
const PAUSE = 20

/** A store in a file, for the processes of one computer. Throws FST_OIDC_OPTION when there is no driver. */
export async function createSqliteStore (options: SqliteStoreOptions): Promise<Store> {
  const database = 'database' in options ? options.database : await openDatabase(options.path)
  await patiently(() => database.exec(SCHEMA))
  return storeOf(database, 'path' in options)
}

// SQLite itself would wait within the call, and everybody else in this process with it.
async function patiently<T> (work: () => T): Promise<T> {
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

const DRIVERS = [['node:sqlite', 'DatabaseSync'], ['better-sqlite3', 'default']] as const

/** `drivers` are tried in their order: Node's own, where it has one, else the optional peer. */
export async function openDatabase (
  path: string,
  drivers: ReadonlyArray<readonly [string, string]> = DRIVERS
): Promise<SqliteDatabase> {
  for (const [name, member] of drivers) {
    const driver = (await import(name).catch(() => undefined)) as
      Record<string, new (path: string) => SqliteDatabase> | undefined
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
    purge: sql(
      `DELETE FROM oidc_entries WHERE key IN (SELECT key FROM oidc_entries WHERE expires_at <= ? LIMIT ${PURGED_AT_ONCE})`
    )
  }
  const run = (statement: SqliteStatement, ...parameters: unknown[]): number =>
    Number(statement.run(...(parameters as never[])).changes)
  const row = <T>(statement: SqliteStatement, ...parameters: unknown[]): T | undefined =>
    statement.get(...(parameters as never[])) as T | undefined
  const valueOf = (key: string): string | null => row<{ value: string }>(statements.get, key, now())?.value ?? null

  /** All of it or nothing, while no other process writes. */
  function atomically<T> (work: () => T): T {
    database.exec('BEGIN IMMEDIATE')
    try {
      const result = work()
      database.exec('COMMIT')
      return result
    } catch (error) {
      database.exec('ROLLBACK')
      throw error
    }
  }

  function write (key: string, value: string, expiresAt: number, tags: readonly string[]): void {
    run(statements.remove, key)
    run(statements.insert, key, value, expiresAt)
    for (const tag of tags) run(statements.tag, tag, key)
  }

  return {
    get: async (key) => await patiently(() => valueOf(key)),

    has: async (key) => await patiently(() => valueOf(key)) !== null,

    set: async (key, value, { expiresAt, tags = [] }) =>
      await patiently(() => atomically(() => write(key, value, expiresAt, tags))),

    create: async (key, value, { expiresAt, tags = [] }) => await patiently(() => atomically(() => {
      if (valueOf(key) !== null) return false
      write(key, value, expiresAt, tags)
      return true
    })),

    replace: async (key, expected, value, expiresAt) =>
      (await patiently(() => run(statements.replace, value, expiresAt, key, expected, now()))) === 1,

    take: async (key) => await patiently(() => atomically(() => {
      const value = valueOf(key)
      run(statements.remove, key)
      return value
    })),

    async list (tag, { limit = 1000, after = '' } = {}) {
      const rows = (await patiently(() => statements.list.all(...([tag, after, now(), limit] as never[])))) as Array<{
        key: string
        value: string
      }>
      return rows.map(({ key, value }) => ({ key, value }))
    },

    async purge () {
      let removed = 0
      let step = PURGED_AT_ONCE
      while (step === PURGED_AT_ONCE) {
        step = await patiently(() => run(statements.purge, now()))
        removed += step
        await new Promise(setImmediate) // others want to work as well
      }
      return removed
    },

    async close () {
      if (isOwn) database.close()
    }
  }
}
