import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { openDatabase } from '../../lib/store/sqlite.ts'
import { temporaryFolder } from '../../test/support/own-server.ts'
import { skipWithoutSqlite } from '../../test/support/services.ts'
import type { Fault } from './fault.ts'
import type { World } from './world.ts'

const hasPrlimit = spawnSync('prlimit', ['--version']).error === undefined

/** How large a file may become that the application writes to. */
function limitFiles ({ processes }: World, size: string): void {
  for (const { pid } of processes) spawnSync('prlimit', ['--pid', String(pid), `--fsize=${size}:unlimited`])
}

export const sqliteFaults: Fault[] = [
  {
    name: 'sqlite-locked',
    title: 'SQLite: another process keeps the file locked for writing',
    skip: skipWithoutSqlite,
    async prepare (t) {
      const path = join(temporaryFolder(t, 'sqlite'), 'oidc.db')
      const other = await openDatabase(path)
      t.teardown(() => other.close())
      return {
        application: { store: `sqlite:${path}` },
        begin: () => { other.exec('PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE') },
        end: () => { other.exec('ROLLBACK') }
      }
    }
  },
  {
    name: 'sqlite-full',
    title: 'SQLite: nothing can be written to the file, as on a full disk',
    skip: skipWithoutSqlite === false ? !hasPrlimit && 'no prlimit' : skipWithoutSqlite,
    prepare: (t) => ({
      application: { store: `sqlite:${join(temporaryFolder(t, 'sqlite'), 'oidc.db')}` },
      // One byte: a file without any is allowed to be made.
      begin: (world) => limitFiles(world, '1'),
      end: (world) => limitFiles(world, 'unlimited')
    })
  }
]
