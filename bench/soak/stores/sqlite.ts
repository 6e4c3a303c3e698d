import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openDatabase } from '../../../lib/store/sqlite.ts'
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
  const folder = await mkdtemp(join(tmpdir(), 'oidc-soak-sqlite-'))
  const path = join(folder, 'oidc.db')
  const database = await openDatabase(path)
  database.exec('PRAGMA busy_timeout = 0')
  return {
    url: `sqlite:${path}`,
    faults: [{
      name: 'another process locks the store',
      begin: async () => await lock(database),
      end: async () => database.exec('ROLLBACK')
    }],
    async stop () {
      database.close()
      await rm(folder, { recursive: true })
    }
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
