import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { once } from 'node:events'
import { openDatabase } from '../../lib/store/sqlite.ts'

/** The servers that the tests use. Default: on this computer. */
export const POSTGRES = process.env['OIDC_TEST_POSTGRES'] ?? 'postgres://root@127.0.0.1:5432/test'
export const REDIS = process.env['OIDC_TEST_REDIS'] ?? 'redis://127.0.0.1:6379'

const nothingIsSkipped = process.env['OIDC_TEST_ALL'] === '1'

/** Why tests of a server are skipped, or `false`. With OIDC_TEST_ALL=1 they run, and fail without the server. */
async function skipWithout (url: string, port: number): Promise<string | false> {
  const { hostname, port: own, protocol } = new URL(url)
  const socket = connect({ host: hostname, port: own === '' ? port : Number(own) })
  const reached = await once(socket, 'connect').then(() => true, () => false)
  socket.destroy()
  return !reached && !nothingIsSkipped && `no ${protocol} server at ${hostname}`
}

export const skipWithoutPostgres = await skipWithout(POSTGRES, 5432)
export const skipWithoutRedis = await skipWithout(REDIS, 6379)
export const skipWithoutSqlite: string | false = await openDatabase(':memory:').then(
  (database) => {
    database.close()
    return false
  },
  () => !nothingIsSkipped && 'no node:sqlite, and better-sqlite3 is not built'
)

/** A name that no other test and no other run uses. */
export function uniqueName (): string {
  return `oidc_test_${randomBytes(6).toString('hex')}`
}
