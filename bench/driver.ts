import { answer, usage } from './answer.ts'
import { startLoad, takeTurns, type Load, type Requests } from './load.ts'
import { logins, type LoginOptions } from './logins.ts'
import type { Case } from './requests.ts'

/** What the driver's core does: it logs in, keeps the cookies, and makes the load with them. */

interface LoadCommand extends Pick<Case, 'path' | 'sessions'> {
  port: number
  connections: number
}

const sessions: string[] = []
const series = new Map<string, Requests>()
let load: Load

// A load goes on where the one before stopped: from the start again it would find its sessions in the cache.
function requestsOf (path: string, count: number): Requests {
  const key = `${path} ${count}`
  const requests = series.get(key) ?? takeTurns(path, sessions.slice(0, count))
  series.set(key, requests)
  return requests
}

answer({
  async createSessions (options: LoginOptions) {
    sessions.push(...await logins(options))
  },
  sessions: () => ({ distinct: new Set(sessions).size, bytes: sessions[0]?.length }),
  async login (options: LoginOptions) {
    await logins(options)
  },
  start ({ port, connections, path, sessions }: LoadCommand) {
    load = startLoad({ port, connections, requests: requestsOf(path, sessions) })
  },
  counts: () => ({ ...load.counts(), ...usage() }),
  stop: () => load.stop()
})
