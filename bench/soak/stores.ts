import { startPostgres, skipPostgres } from './stores/postgres.ts'
import { startRedis, skipRedis } from './stores/redis.ts'
import { startSqlite, skipSqlite } from './stores/sqlite.ts'

/** What goes wrong with a store for a moment. */
export interface StoreFault {
  name: string
  begin: () => Promise<unknown>
  end: () => Promise<unknown>
}

/** A store that runs. */
export interface RunningStore {
  /** What the application gets as `store`. */
  url: string | undefined
  faults: StoreFault[]
  stop: () => Promise<unknown>
}

/** A store to run with, and how an application with it is run. */
export interface StoreKind {
  /** Why it cannot be used here, or `undefined`. */
  skip: () => Promise<string | undefined>
  start: () => Promise<RunningStore>
  /** How many processes the application has. */
  processes: number
  /** Whether each browser always uses the same process. */
  isSticky: boolean
  /** Whether the sessions are in the store, and not in cookies. */
  hasSessions: boolean
  /** Whether sessions, logouts and grants are still there after a process was killed. */
  survivesKill: boolean
  /** Whether it can issue tokens of its own. */
  hasBroker: boolean
}

const here = async (): Promise<undefined> => undefined
const inProcess = (url: string | undefined) => async (): Promise<RunningStore> =>
  ({ url, faults: [], stop: async () => {} })

const server = { processes: 2, isSticky: false, hasSessions: true, survivesKill: true, hasBroker: true }

export const STORES: Record<string, StoreKind> = {
  // docs/operations.md, "Several processes", says what does not hold without a store: hence the sticky browsers.
  cookies: { ...server, skip: here, start: inProcess(undefined), isSticky: true, hasSessions: false, hasBroker: false },
  memory: { ...server, skip: here, start: inProcess('memory:'), processes: 1, survivesKill: false },
  sqlite: { ...server, skip: skipSqlite, start: startSqlite },
  postgres: { ...server, skip: skipPostgres, start: startPostgres },
  redis: { ...server, skip: skipRedis, start: startRedis },
  // Sessions in cookies, and what the processes must share in a store.
  marks: { ...server, skip: skipRedis, start: startRedis, hasSessions: false }
}
