import { setTimeout as sleep } from 'node:timers/promises'
import { skipWithoutPgBouncerServer, startPgBouncer } from '../../test/support/pgbouncer.ts'
import { skipWithoutPostgresServer, startPostgres } from '../../test/support/postgres-server.ts'
import type { PostgresServer } from '../../test/support/postgres-server.ts'
import type { Fault } from './fault.ts'

const skip = skipWithoutPostgresServer
const TABLE = 'oidc_entries'

const CUT = 'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()'

/** As `pg_restore --clean --single-transaction`. */
const RESTORE = `BEGIN;
  CREATE TEMP TABLE backup AS SELECT * FROM ${TABLE};
  ALTER TABLE ${TABLE} RENAME TO former;
  CREATE TABLE ${TABLE} (LIKE former INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
  INSERT INTO ${TABLE} SELECT * FROM backup;
  DROP TABLE former;
  ALTER TABLE ${TABLE} ADD PRIMARY KEY (key)`

/** Holds statements for as long as the fault lasts. `last` is the last statement. */
function holding (server: PostgresServer, statements: string, last: string) {
  let release = async (_sql: string): Promise<void> => {}
  return {
    application: { store: server.url },
    begin: async () => { release = await server.hold(statements) },
    end: async () => await release(last)
  }
}

export const postgresFaults: Fault[] = [
  {
    name: 'postgres-restart',
    title: 'PostgreSQL crashes, and is started again',
    skip,
    async prepare (t) {
      const { url, end, start } = await startPostgres(t)
      return { application: { store: url }, begin: end, end: start }
    }
  },
  {
    name: 'postgres-cut',
    title: 'PostgreSQL: all connections are cut, again and again',
    skip,
    async prepare (t) {
      const { url, run } = await startPostgres(t)
      const fault = { lasts: true }
      const cut = async (): Promise<void> => {
        for (; fault.lasts; await sleep(200)) await run(CUT)
      }
      return { application: { store: url }, begin: () => { cut() }, end: () => { fault.lasts = false } }
    }
  },
  {
    name: 'postgres-locked',
    title: 'PostgreSQL: the table is locked, and every query hangs',
    skip,
    prepare: async (t) => holding(await startPostgres(t), `BEGIN; LOCK TABLE ${TABLE} IN ACCESS EXCLUSIVE MODE`, 'ROLLBACK')
  },
  {
    name: 'postgres-restored',
    title: 'PostgreSQL: the table is restored from a backup, in one transaction',
    skip,
    prepare: async (t) => holding(await startPostgres(t), RESTORE, 'COMMIT')
  },
  {
    name: 'postgres-dropped',
    title: 'PostgreSQL: the table is dropped, with all that is in it',
    skip,
    async prepare (t) {
      const { url, run } = await startPostgres(t)
      return { application: { store: url }, sessions: 'are lost', begin: async () => await run(`DROP TABLE ${TABLE}`) }
    }
  },
  {
    name: 'pgbouncer-restart',
    title: 'PgBouncer crashes, and is started again',
    skip: skip === false ? skipWithoutPgBouncerServer : skip,
    async prepare (t) {
      const { url: target } = await startPostgres(t)
      const { url, end, start } = await startPgBouncer(t, 'root', target)
      return { application: { store: url }, begin: end, end: start }
    }
  }
]
