import { setTimeout as sleep } from 'node:timers/promises'
import type { Usage } from './answer.ts'
import { startServer, type Child } from './child.ts'
import { order } from './figures.ts'
import type { ServerOptions } from './servers/serve.ts'
import type { Settings } from './settings.ts'

export interface Case {
  /** `plugin` for a file of `servers`, `peers/hono` for one of `peers`. */
  server: string
  path: string
  /** How many different sessions are sent in turn. 0: no Cookie header. */
  sessions: number
  /** Where the sessions are. Default: in cookies. */
  kind?: Kind
  options?: Partial<ServerOptions>
}

/** Sessions in cookies, sessions in the store, access tokens, sessions of a peer. */
export type Kind = 'cookies' | 'store' | 'tokens' | `peers/${string}`

interface Sample {
  /** Requests per second. */
  rate: number
  /** CPU time of the server per request, in microseconds. */
  cpu: number
  /** The share of time in which the driver was idle, from 0 to 1. Above 0, the server is the bottleneck. */
  idleShare: number
}

/** One value per round. */
export type Result = { [key in keyof Sample]: number[] }

interface Counts extends Usage { completed: number, refused: number, turns: number, idle: number }

interface Moment { server: Usage, driver: Counts }

interface Running {
  server: Child
  /** Starts the load of this case. */
  load: () => Promise<unknown>
  samples: Sample[]
}

/**
 * Measures all cases in turn. Processes run long enough to be optimised, and are replaced often enough that one fast or
 * slow process does not decide the result.
 */
export async function measureRequests (
  driver: Child,
  cases: Case[],
  options: ServerOptions,
  settings: Settings
): Promise<Result[]> {
  const samples = cases.map((): Sample[] => [])
  for (let set = 0; set < settings.sets; set += 1) {
    const measured = await measureSet(driver, cases, options, settings)
    measured.forEach((each, at) => samples[at]?.push(...each))
  }
  return samples.map(columns)
}

async function measureSet (
  driver: Child,
  cases: Case[],
  options: ServerOptions,
  settings: Settings
): Promise<Sample[][]> {
  const running: Running[] = []
  for (const each of cases) running.push(await start(driver, each, options, settings))
  for (let round = 0; round < settings.rounds; round += 1) {
    for (const each of order(running, round)) await measure(driver, each, settings)
  }
  await Promise.all(running.map(({ server }) => server.stop()))
  return running.map(({ samples }) => samples)
}

async function start (
  driver: Child,
  { server: file, path, sessions, kind = 'cookies', options: own }: Case,
  options: ServerOptions,
  settings: Settings
): Promise<Running> {
  const server = startServer(file)
  const port = await server.ask('listen', { ...options, ...own })
  const load = () => driver.ask('start', { port, path, sessions, kind, connections: settings.connections })
  await load()
  await sleep(settings.warmUp)
  await driver.ask('stop')
  return { server, load, samples: [] }
}

async function measure (driver: Child, { server, load, samples }: Running, settings: Settings): Promise<void> {
  await load()
  await sleep(settings.settle)
  const before = await look(server, driver)
  await sleep(settings.window)
  const after = await look(server, driver)
  await driver.ask('stop')
  samples.push(compare(before, after))
}

async function look (server: Child, driver: Child): Promise<Moment> {
  const [used, counts] = await Promise.all([server.ask<Usage>('usage'), driver.ask<Counts>('counts')])
  return { server: used, driver: counts }
}

function compare (before: Moment, after: Moment): Sample {
  const requests = after.driver.completed - before.driver.completed
  if (after.driver.refused > 0) throw new Error(`${after.driver.refused} requests were refused`)
  const micros = after.driver.at - before.driver.at
  return {
    rate: requests / micros * 1e6,
    cpu: (after.server.cpu - before.server.cpu) / requests,
    idleShare: idleShare(before.driver, after.driver)
  }
}

function idleShare (before: Counts, after: Counts): number {
  const turns = after.turns - before.turns
  return turns > 0 ? (after.idle - before.idle) / turns : 1 - (after.cpu - before.cpu) / (after.at - before.at)
}

function columns (samples: Sample[]): Result {
  const of = (key: keyof Sample) => samples.map(sample => sample[key])
  return { rate: of('rate'), cpu: of('cpu'), idleShare: of('idleShare') }
}
