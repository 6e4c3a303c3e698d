import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openDatabase } from '../../../lib/store/sqlite.ts'
import { temporaryFolder } from './server.ts'
import type { SqliteDatabase } from '../../../lib/store/sqlite.ts'
import type { RunningStore } from '../stores.ts'

export async function skipSqlite (): Promise<string | undefined> {
  return await openDatabase(':memory:').then(
    (database) => {
      database.close()
      return undefined
    },
    () => 'no node:sqlite, and better-sqlite3 is not built'
  )
}

/** A file that both processes use. */
export async function startSqlite (): Promise<RunningStore> {
  const path = join(temporaryFolder('sqlite'), 'oidc.db')
  const database = await openDatabase(path)
  database.exec('PRAGMA busy_timeout = 0')
  return {
    url: `sqlite:${path}`,
    faults: [{
      name: 'another process locks the store',
      begin: async () => await lock(database),
      end: async () => database.exec('ROLLBACK')
    }],
    stop: async () => database.close()
  }
}

/** Waits for a moment in which no other process writes. */
async function lock (database: SqliteDatabase): Promise<void> {
  for (;;) {
    try {
      database.exec('BEGIN EXCLUSIVE')
      return
    } catch {
      await sleep(5)
    }
  }
}
