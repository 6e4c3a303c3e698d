import { chmodSync, existsSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { freePort, isListening } from './free-port.ts'
import { startServer, temporaryFolder } from './own-server.ts'
import { POSTGRES, skipWithoutPostgres } from './services.ts'
import { until } from './until.ts'
import type { Teardown } from './app.ts'
import type { OwnServer } from './own-server.ts'

const executable = `${process.env['PATH'] ?? ''}${delimiter}/usr/sbin`
  .split(delimiter)
  .map((folder) => join(folder, 'pgbouncer'))
  .find((path) => existsSync(path))

const isMissing = executable === undefined && process.env['OIDC_TEST_ALL'] !== '1'
/** Why PgBouncer cannot be started, or `false`. With OIDC_TEST_ALL=1 its tests run, and fail when it is missing. */
export const skipWithoutPgBouncerServer: string | false = isMissing && 'no pgbouncer'
export const skipWithoutPgBouncer: string | false = isMissing ? 'no pgbouncer' : skipWithoutPostgres

/**
 * Starts PgBouncer in transaction mode, with few connections to the server. `user` is the role that it logs in with,
 * `target` the address of the server.
 */
export async function startPgBouncer (
  t: Teardown,
  user: string,
  target = POSTGRES
): Promise<OwnServer & { url: string }> {
  const { hostname, port, pathname } = new URL(target)
  const database = pathname.slice(1)
  const listen = await freePort()
  // PgBouncer does not run as root, and its user cannot read the folders of root.
  const folder = temporaryFolder(t, 'pgbouncer')
  chmodSync(folder, 0o755)
  const file = join(folder, 'pgbouncer.ini')
  writeFileSync(file, `
[databases]
${database} = host=${hostname} port=${port === '' ? 5432 : port} dbname=${database} user=${user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
`)
  const asUser = process.getuid?.() === 0 ? ['-u', 'postgres'] : []
  const server = await startServer(t, [executable as string, '-q', ...asUser, file], { stdio: ['ignore', 'ignore', 'inherit'] })
  await until(async () => await isListening(listen))
  return { ...server, url: `postgres://${user}@127.0.0.1:${listen}/${database}` }
}
