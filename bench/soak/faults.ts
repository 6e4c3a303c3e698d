import { TIMEOUT } from './application.ts'
import type { Child } from '../child.ts'
import type { Processes } from './processes.ts'
import type { RunningStore, StoreKind } from './stores.ts'

/** What may fail because of a fault. */
export type Need =
  /** The token endpoint and the keys of the provider, and the routes that need them. */
  'login' | 'token' | 'userinfo' |
  /** The store: 503. */
  'store' |
  /** Connections to the application. */
  'connection' |
  /** Times of other processes and of the provider: they differ by more than is tolerated, or at all. */
  'clock' | 'skew'

/** Something that goes wrong for a moment. */
export interface Fault {
  name: string
  /** What may fail meanwhile, and until all processes have recovered. Empty when users must not notice it. */
  excuses: Need[]
  /** How long it lasts, in milliseconds. */
  lasts: number
  /** How long the effects may continue after the recovery, in milliseconds. */
  lingers?: number
  begin: () => Promise<unknown>
  end: () => Promise<unknown>
  /** How the recovery shows: a new login at each process, or a session from before at each process. */
  probe: 'login' | 'session'
}

const LASTS = 2500 // milliseconds, long enough for keys to rotate
/** Longer than the store waits for the lock of SQLite. */
const STORE_LASTS = 4000
/** A request without an answer still waits until its timeout, and requests that share its result wait as well. */
const UNANSWERED = TIMEOUT * 1000

interface Outage extends Pick<Fault, 'excuses' | 'lingers'> {
  on: 'metadata' | 'jwks' | 'token' | 'userinfo'
  how: { status?: number, delay?: number, hang?: boolean }
}

const OUTAGES: Outage[] = [
  { on: 'token', how: { status: 503 }, excuses: ['login', 'token'] },
  // After several requests for keys, the plugin asks only once a second.
  { on: 'jwks', how: { status: 503 }, excuses: ['login', 'token'], lingers: 1000 },
  { on: 'metadata', how: { status: 503 }, excuses: [] },
  { on: 'token', how: { delay: 700 }, excuses: [] },
  { on: 'userinfo', how: { status: 503 }, excuses: ['userinfo'] },
  { on: 'jwks', how: { hang: true }, excuses: ['login', 'token'], lingers: UNANSWERED },
  { on: 'jwks', how: { delay: 700 }, excuses: [] },
  { on: 'token', how: { hang: true }, excuses: ['login', 'token'], lingers: UNANSWERED },
  { on: 'userinfo', how: { hang: true }, excuses: ['userinfo'], lingers: UNANSWERED },
  { on: 'metadata', how: { hang: true }, excuses: [] }
]

function outages (provider: Child): Fault[] {
  return OUTAGES.map(({ on, how, ...rest }) => ({
    ...rest,
    name: `provider: ${on} ${Object.entries(how).flat().join(' ').replace(' true', 's')}`,
    lasts: LASTS,
    probe: 'login',
    begin: async () => await provider.ask('startOutage', { on, ...how }),
    end: async () => await provider.ask('endOutage')
  }))
}

/** Processes tolerate 60 seconds of each other, and 30 of the provider. */
const STEPS: Array<[seconds: number, excuses: Need[]]> = [
  [20, ['skew']], [-90, ['skew', 'clock']], [-20, ['skew']], [90, ['skew', 'clock']]
]

function clockSteps (processes: Processes): Fault[] {
  return STEPS.map(([seconds, excuses], index) => {
    const at = index % processes.all.length
    const move = async (by: number): Promise<unknown> => await processes.all[at]?.ask('advance', by)
    return {
      name: `the clock of one process steps by ${seconds} s`,
      excuses,
      lasts: LASTS,
      probe: 'session',
      begin: async () => await move(seconds),
      end: async () => await move(-seconds)
    }
  })
}

function storeFaults ({ faults }: RunningStore): Fault[] {
  return faults.map((fault) => ({ ...fault, excuses: ['store'], lasts: STORE_LASTS, probe: 'session' }))
}

/** The first process stays, so that its memory shows the whole run. */
function kills (processes: Processes): Fault[] {
  return [{
    name: 'kill -9 of a process',
    excuses: ['connection'],
    lasts: 0,
    lingers: 1000,
    probe: 'session',
    begin: async () => await processes.killLast(),
    end: async () => await processes.startLast()
  }]
}

/** All faults of a run, those of each kind in turn. */
export function planFaults (provider: Child, processes: Processes, kind: StoreKind, store: RunningStore): Fault[] {
  const deaths = kind.survivesKill ? kills(processes) : []
  const kinds = [storeFaults(store), deaths, clockSteps(processes), outages(provider)]
  const rounds = Math.max(...kinds.map(({ length }) => length))
  // Kinds with few faults come again and again.
  return Array.from({ length: rounds }, (_, round) =>
    kinds.filter(({ length }) => length > 0).map((faults) => faults[round % faults.length] as Fault)).flat()
}
