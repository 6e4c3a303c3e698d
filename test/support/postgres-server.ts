import { spawnSync } from 'node:child_process'
import { chownSync, existsSync, readdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import pg from 'pg'
import { freePort } from './free-port.ts'
import { startServer, temporaryFolder } from './own-server.ts'
import { until } from './until.ts'
import type { Teardown } from './app.ts'
import type { OwnServer } from './own-server.ts'

const DEBIAN = '/usr/lib/postgresql' // a folder for each version, outside of PATH
const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN).map((version) => join(DEBIAN, version, 'bin')) : []
const bin = [...(process.env['PATH'] ?? '').split(delimiter), ...versions]
  .find((folder) => existsSync(join(folder, 'initdb')))

/** Why no server of PostgreSQL can be started, or `false`. */
export const skipWithoutPostgresServer: string | false = bin === undefined && 'no initdb of PostgreSQL'

export interface PostgresServer extends OwnServer {
  /** The address of an empty database. */
  url: string
  /** Runs statements in a connection of their own. */
  run: (sql: string) => Promise<void>
  /** Runs statements, and keeps the connection. The returned function runs the last ones, and ends it. */
  hold: (sql: string) => Promise<(last: string) => Promise<void>>
}

/** Starts a server with an empty database. It ends as in a crash, without a checkpoint. */
export async function startPostgres (t: Teardown): Promise<PostgresServer> {
  const [port, folder, user] = [await freePort(), temporaryFolder(t, 'postgres'), ownUser()]
  if ('uid' in user) chownSync(folder, user.uid, user.gid)
  const data = join(folder, 'data')
  const made = spawnSync(join(bin as string, 'initdb'), ['-D', data, '-A', 'trust', '-U', 'root', '-N'], { ...user, cwd: folder })
  if (made.status !== 0) throw new Error(`initdb has failed: ${made.stderr.toString()}`)
  const options = {
    port, listen_addresses: '127.0.0.1', unix_socket_directories: '', fsync: 'off', logging_collector: 'off'
  }
  const flags = Object.entries(options).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const server = await startServer(t, [join(bin as string, 'postgres'), '-D', data, ...flags], {
    ...user, cwd: folder, crash: 'SIGQUIT'
  })
  const url = `postgres://root@127.0.0.1:${port}/postgres`
  const hold: PostgresServer['hold'] = async (sql) => {
    const client = new pg.Client({ connectionString: url })
    client.on('error', () => {}) // the server may end
    await client.connect()
    await client.query(sql)
    return async (last) => {
      await client.query(last)
      await client.end()
    }
  }
  const run = async (sql: string): Promise<void> => await (await hold(sql))('')
  await until(async () => await run('SELECT 1').then(() => true, () => false))
  return { ...server, url, run, hold }
}

/** PostgreSQL does not run as root. */
function ownUser (): { uid: number, gid: number } | Record<string, never> {
  if (process.getuid?.() !== 0) return {}
  const [uid, gid] = ['-u', '-g'].map((flag) => Number(spawnSync('id', [flag, 'postgres']).stdout.toString()))
  return { uid: uid as number, gid: gid as number }
}
