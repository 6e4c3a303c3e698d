import { answer, usage } from './answer.ts'
import { startLoad, takeTurns, type Load, type Requests } from './load.ts'
import { logins, type LoginOptions } from './logins.ts'
import type { Case, Kind } from './requests.ts'

/** The driver process: it logs in, keeps the cookies, and produces load with them. */

interface LoadCommand extends Pick<Case, 'path' | 'sessions'> {
  port: number
  connections: number
  kind: Kind
}

const sessions = new Map<Kind, string[]>()
const series = new Map<string, Requests>()
let load: Load

function sessionsOf (kind: Kind): string[] {
  const known = sessions.get(kind) ?? []
  sessions.set(kind, known)
  return known
}

// A load continues where the last one stopped. If it started again, its first sessions would still be cached.
function requestsOf (path: string, count: number, kind: Kind): Requests {
  const key = `${path} ${count} ${kind}`
  const requests =
    series.get(key) ??
    takeTurns(
      path,
      sessionsOf(kind)
        .slice(0, count)
        .map((value) => (kind === 'tokens' ? `Authorization: Bearer ${value}` : `Cookie: ${value}`))
    )
  series.set(key, requests)
  return requests
}

answer({
  async createSessions ({ kind, ...options }: LoginOptions & { kind: Kind }) {
    sessionsOf(kind).push(...await logins(options))
  },
  keepTokens (tokens: string[]) {
    sessionsOf('tokens').push(...tokens)
  },
  sessions: (kind: Kind) => ({ distinct: new Set(sessionsOf(kind)).size, bytes: sessionsOf(kind)[0]?.length }),
  async login (options: LoginOptions) {
    await logins(options)
  },
  start ({ port, connections, path, sessions, kind }: LoadCommand) {
    // The store may run on this core, so the driver must leave time for it.
    load = startLoad({ port, connections, requests: requestsOf(path, sessions, kind), awake: kind !== 'store' })
  },
  counts: () => ({ ...load.counts(), ...usage() }),
  stop: () => load.stop()
})
