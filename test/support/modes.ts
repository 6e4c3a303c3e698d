import { createMemoryStore } from '../../lib/store/memory.ts'
import { SESSION_KEY } from './app.ts'
import type { OidcOptions, SessionOptions } from '../../index.ts'
import type { Store } from '../../types/store.ts'

/** A way to keep sessions. `options` returns those of one process; processes with the same store share sessions. */
export interface Mode {
  name: string
  /** Whether processes share state. */
  shared: boolean
  /** Whether sessions can be listed. */
  listed: boolean
  options: (store?: Store, session?: Partial<SessionOptions>) => Partial<OidcOptions>
}

const session = { key: SESSION_KEY, idleTimeout: 28_800 }

export const modes: Mode[] = [
  {
    name: 'sessions in cookies',
    shared: false,
    listed: false,
    options: (_store, more) => ({ session: { ...session, ...more } })
  },
  {
    name: 'sessions in cookies, and a store',
    shared: true,
    listed: false,
    options: (store = createMemoryStore(), more) => ({ store, session: { ...session, ...more } })
  },
  {
    name: 'sessions in the store',
    shared: true,
    listed: true,
    options: (store = createMemoryStore(), more) => ({ store, session: { ...session, store: true, ...more } })
  }
]

/** A store whose functions can be made to fail or to wait. */
export function faultyStore (store: Store = createMemoryStore()): {
  store: Store
  fault: { verbs: ReadonlySet<string> | null; work: () => Promise<unknown> }
  calls: string[]
} {
  const fault = {
    verbs: null as ReadonlySet<string> | null,
    work: async (): Promise<unknown> => {
      throw new Error('connection refused')
    }
  }
  const calls: string[] = []
  const wrapped = Object.fromEntries(
    Object.entries(store).map(([verb, work]) => [
      verb,
      async (...parameters: unknown[]) => {
        calls.push(verb)
        if (fault.verbs?.has(verb) === true || fault.verbs?.has('all') === true) {
          const instead = await fault.work()
          if (instead !== undefined) return instead
        }
        return await (work as (...parameters: unknown[]) => Promise<unknown>)(...parameters)
      }
    ])
  ) as unknown as Store
  return { store: wrapped, fault, calls }
}
