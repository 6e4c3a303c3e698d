import { createOwnServer, freePort, isInstalled, temporaryFolder } from './server.ts'
import { openWay } from './way.ts'
import type { RunningStore } from '../stores.ts'

export async function skipRedis (): Promise<string | undefined> {
  return isInstalled('redis-server') ? undefined : 'no redis-server in PATH'
}

/** A server of its own, which keeps on disk what it has acknowledged. */
export async function startRedis (): Promise<RunningStore> {
  const [folder, port] = [temporaryFolder('redis'), await freePort()]
  const settings = { port, bind: '127.0.0.1', dir: folder, appendonly: 'yes', 'maxmemory-policy': 'noeviction' }
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)])
  const server = createOwnServer('redis-server', [...args, '--save', ''], port, {})
  await server.start()
  const way = await openWay(port)
  return {
    url: `redis://127.0.0.1:${way.port}`,
    faults: [{ name: 'store crashes', begin: server.crash, end: server.start }, ...way.faults],
    async stop () {
      await way.stop()
      await server.crash()
    }
  }
}
