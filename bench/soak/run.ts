import { randomBytes } from 'node:crypto'
import { startChild } from '../child.ts'
import { simulateAnonymous } from './anonymous.ts'
import { simulateApiClients } from './api.ts'
import { createBreaking } from './break.ts'
import { openEntrance } from './entrance.ts'
import { planFaults } from './faults.ts'
import { createForgedLogins } from './forged.ts'
import { simulateAttackers } from './hostile.ts'
import { createLedger } from './ledger.ts'
import { watchPace } from './pace.ts'
import { gatherPanel } from './panel.ts'
import { startProcesses } from './processes.ts'
import { simulatePrograms } from './programs.ts'
import { simulateTenants } from './tenants.ts'
import { createTimeline } from './timeline.ts'
import { simulateUsers } from './users.ts'
import { inspect } from './world.ts'
import type { Child } from '../child.ts'
import type { ProcessReport } from './app.ts'
import type { ApplicationOptions, Issuers } from './application.ts'
import type { Recoveries } from './break.ts'
import type { Entrance } from './entrance.ts'
import type { ForgedLogins } from './forged.ts'
import type { Ledger } from './ledger.ts'
import type { Processes } from './processes.ts'
import type { ProviderReport, RefreshReport } from './provider.ts'
import type { Settings } from './settings.ts'
import type { RunningStore, StoreKind } from './stores.ts'
import type { Timeline } from './timeline.ts'
import type { World } from './world.ts'

export interface Outcome {
  ledger: Ledger
  /** Seconds of measured load. */
  seconds: number
  recoveries: Recoveries
  provider: ProviderReport
  /** The reports of each process of the application: before, in the middle of, and after the load. */
  processes: ProcessReport[][]
}

interface Traffic extends Omit<World, 'isOver'> {
  ending: AbortSignal
}

/** How many of each kind act at the same time. */
const ACTORS = { users: 24, attackers: 3, anonymous: 2, apiClients: 2, programs: 3, tenants: 2, panel: 4 }
const KEY_ROTATIONS = 100
/** For the start and the end, where other work shares the cores, in seconds. */
const GRACE = 300

/** Runs the application with one store, under traffic and faults, until the time is over or `ending` says so. */
export async function run (kind: StoreKind, settings: Settings, ending: AbortSignal): Promise<Outcome> {
  const watchdog = setTimeout(() => {
    console.error('the soak did not end in time')
    process.exit(1)
  }, (settings.warmUp + settings.seconds + GRACE) * 1000)
  const store = await kind.start()
  const provider = startChild('soak/provider', 'any')
  const rotateEvery = 1000 * Math.min(20, Math.max(2, settings.seconds / KEY_ROTATIONS))
  const issuers = await provider.ask<Issuers>('listen', { rotateEvery })
  const key = randomBytes(32).toString('base64')
  const options = { ...issuers, key, store: { url: store.url, hasSessions: kind.hasSessions } }
  const [ledger, timeline] = [createLedger(), createTimeline()]
  const processes = await startProcesses(kind.processes, options, (...response) =>
    inspect({ issuers, timeline, ledger }, ...response))
  const entrances = entrancesOf(kind, processes, timeline, ledger)
  const traffic = { kind, issuers, provider, entrances, timeline, ledger, ending }
  const outcome = await load(traffic, settings, store, processes, options)
  await Promise.all([processes.stop(), provider.stop()])
  await store.stop()
  clearTimeout(watchdog)
  return outcome
}

function entrancesOf ({ isSticky }: StoreKind, { all }: Processes, timeline: Timeline, ledger: Ledger): Entrance[] {
  const groups = isSticky ? all.map((process) => [process]) : [all]
  return groups.map((processes) => openEntrance(processes, timeline, ledger))
}

async function load (
  traffic: Traffic,
  settings: Settings,
  store: RunningStore,
  processes: Processes,
  options: ApplicationOptions
): Promise<Outcome> {
  const { ledger, provider, ending } = traffic
  const forged = await createForgedLogins(options)
  const panel = await gatherPanel({ ...traffic, isOver: () => false })
  const breaking = createBreaking(planFaults(provider, processes, traffic.kind, store), panel, settings.calm)

  /** All kinds of traffic for so many seconds, until every request has ended. */
  async function act (seconds: number, requests: number, ...more: Array<typeof breaking.run>): Promise<void> {
    const until = Date.now() + seconds * 1000
    const isOver = (): boolean => ending.aborted || Date.now() >= until || ledger.get('requests') >= requests
    const world: World = { ...traffic, isOver }
    const all = [...startActors(world, forged), ...times(ACTORS.panel, async () => await panel.browse(world))]
    await Promise.all([...all, ...more.map(async (run) => await run(world))])
  }

  await act(settings.warmUp, Infinity)
  const before = await processes.reports()
  await provider.ask('report')
  ledger.restart()
  const from = performance.now()
  await act(settings.seconds / 2, settings.maxRequests / 2, breaking.run)
  const middle = await processes.reports()
  await act(settings.seconds / 2, settings.maxRequests, breaking.run)
  const seconds = (performance.now() - from) / 1000
  const after = await processes.reports()
  const reportsOf = (index: number): ProcessReport[] =>
    [before, middle, after].map((reports) => reports[index] as ProcessReport)
  await checkRefreshes(traffic)
  await forged.close()
  return {
    ledger,
    seconds,
    recoveries: breaking.recoveries,
    provider: await provider.ask<ProviderReport>('report'),
    processes: processes.all.map((_, index) => reportsOf(index))
  }
}

function startActors (world: World, forged: ForgedLogins): Array<Promise<void>> {
  return [
    watchPace(world),
    ...times(ACTORS.users, async () => await simulateUsers(world)),
    ...times(ACTORS.attackers, async () => await simulateAttackers(world, forged)),
    ...times(ACTORS.anonymous, async () => await simulateAnonymous(world)),
    ...times(ACTORS.apiClients, async () => await simulateApiClients(world)),
    ...times(ACTORS.tenants, async () => await simulateTenants(world)),
    // A broker needs a store.
    ...times(world.kind.hasBroker ? ACTORS.programs : 0, async () => await simulatePrograms(world))
  ]
}

function times (count: number, run: () => Promise<void>): Array<Promise<void>> {
  return Array.from({ length: count }, run)
}

/** A process that dies while it refreshes loses the new token, so another one sends the old one (docs/stores.md). */
const LOST_FOR = 60_000 // milliseconds

async function checkRefreshes ({ provider, ledger, timeline }: { provider: Child } & Traffic): Promise<void> {
  const { refreshes, repeated } = await provider.ask<RefreshReport>('refreshes')
  const wrong = repeated.filter((at) => !timeline.excuses(at - LOST_FOR, 'connection'))
  ledger.count('refresh tokens that a killed process had sent before', repeated.length - wrong.length)
  for (let index = 0; index < refreshes; index++) {
    ledger.check('refresh tokens used twice', index >= wrong.length, () => `at the provider, at ${wrong[index]}`)
  }
}
