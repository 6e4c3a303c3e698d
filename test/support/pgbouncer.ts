import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { freePort } from './free-port.ts'
import { POSTGRES, skipWithoutPostgres } from './services.ts'
import { until } from './until.ts'
import type { Test } from 'tap'

const executable = `${process.env['PATH'] ?? ''}${delimiter}/usr/sbin`
  .split(delimiter)
  .map((folder) => join(folder, 'pgbouncer'))
  .find((path) => existsSync(path))

/** Why tests with PgBouncer are skipped, or `false`. With OIDC_TEST_ALL=1 they run, and fail when it is missing. */
export const skipWithoutPgBouncer: string | false =
  executable === undefined && process.env['OIDC_TEST_ALL'] !== '1' ? 'no pgbouncer' : skipWithoutPostgres

/**
 * Starts PgBouncer in transaction mode, with few connections to the server. `user` is the role that it logs in with.
 * Returns its address.
 */
export async function startPgBouncer (t: Test, user: string): Promise<string> {
  const { hostname, port, pathname } = new URL(POSTGRES)
  const database = pathname.slice(1)
  const listen = await freePort()
  // PgBouncer does not run as root, and its user cannot read the folders of root.
  const folder = mkdtempSync(join(tmpdir(), 'oidc-pgbouncer-'))
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
  const user_ = process.getuid?.() === 0 ? ['-u', 'postgres'] : []
  const child = spawn(executable as string, ['-q', ...user_, file], { stdio: ['ignore', 'ignore', 'inherit'] })
  t.teardown(async () => {
    child.kill('SIGKILL')
    if (child.exitCode === null) await once(child, 'exit')
    rmSync(folder, { recursive: true })
  })
  await until(async () => child.exitCode !== null || await isListening(listen))
  return `postgres://${user}@127.0.0.1:${listen}/${database}`
}

async function isListening (port: number): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port })
  const reached = await once(socket, 'connect').then(() => true, () => false)
  socket.destroy()
  return reached
}
