import { spawnSync } from 'node:child_process'
import { chown, readdir } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { connect } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createOwnServer, freePort, temporaryFolder } from './server.ts'
import { openWay } from './way.ts'
import type { RunningStore } from '../stores.ts'

/** A server that runs already, and whose database `test` may be used. */
const GIVEN = process.env['OIDC_TEST_POSTGRES'] ?? 'postgres://root@127.0.0.1:5432/test'
const OWNER = 'soak'
const DEBIAN = '/usr/lib/postgresql'

export async function skipPostgres (): Promise<string | undefined> {
  if (await findPrograms() !== undefined || await isGiven()) return undefined
  return `no PostgreSQL programs, and no server at ${new URL(GIVEN).host}`
}

/** A cluster of its own where the programs are installed, else the given server. */
export async function startPostgres (): Promise<RunningStore> {
  const programs = await findPrograms()
  return programs === undefined ? await useGiven() : await startCluster(programs)
}

async function startCluster (programs: string): Promise<RunningStore> {
  const [folder, port] = [temporaryFolder('postgres'), await freePort()]
  const user = serverUser()
  if (user !== undefined) await chown(folder, user.uid, user.gid)
  const data = join(folder, 'data')
  run(join(programs, 'initdb'), ['-D', data, '-U', OWNER, '-A', 'trust', '-E', 'UTF8', '--no-sync'], user)
  const settings = [`port=${port}`, 'listen_addresses=127.0.0.1', `unix_socket_directories=${folder}`, 'fsync=off']
  const args = ['-D', data, ...settings.flatMap((setting) => ['-c', setting])]
  const server = createOwnServer(join(programs, 'postgres'), args, port, { ...user })
  await server.start()
  const way = await openWay(port)
  return {
    url: `postgres://${OWNER}@127.0.0.1:${way.port}/postgres`,
    faults: [{ name: 'store crashes', begin: server.crash, end: server.start }, ...way.faults],
    async stop () {
      await way.stop()
      await server.crash()
    }
  }
}

async function useGiven (): Promise<RunningStore> {
  const url = new URL(GIVEN)
  const way = await openWay(Number(url.port === '' ? 5432 : url.port))
  url.host = `127.0.0.1:${way.port}`
  return { url: url.href, faults: way.faults, stop: way.stop }
}

/** The folder with the programs of the server. */
async function findPrograms (): Promise<string | undefined> {
  const versions = await readdir(DEBIAN).catch(() => [])
  return [...(process.env['PATH'] ?? '').split(delimiter), ...versions.map((version) => join(DEBIAN, version, 'bin'))]
    .find((folder) => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'postgres')))
}

/** The server does not run as root. */
function serverUser (): { uid: number, gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined
  const idOf = (kind: string): number => Number(run('id', [kind, 'postgres']))
  return { uid: idOf('-u'), gid: idOf('-g') }
}

function run (program: string, args: string[], user?: { uid: number, gid: number }): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { ...user, cwd: tmpdir(), encoding: 'utf8' })
  if (status !== 0) throw new Error(`${program} failed: ${error?.message ?? stderr}`)
  return stdout
}

async function isGiven (): Promise<boolean> {
  const { hostname, port } = new URL(GIVEN)
  const socket = connect({ host: hostname, port: Number(port === '' ? 5432 : port) })
  const isReached = await once(socket, 'connect').then(() => true, () => false)
  socket.destroy()
  return isReached
}
