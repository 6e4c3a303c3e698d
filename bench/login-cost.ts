import type { Usage } from './answer.ts'
import { startServer, type Child } from './child.ts'
import { order } from './figures.ts'
import type { ServerOptions } from './servers/serve.ts'
import type { Settings } from './settings.ts'

/** An application that logs users in. */
export interface RelyingParty {
  server: string
  /** Where a login begins. Default: `/auth/login`. */
  login?: string
  options?: Partial<ServerOptions>
}

interface Running {
  server: Child
  logIn: (count: number) => Promise<unknown>
  /** CPU time per login in microseconds, one value per round. */
  samples: number[]
}

/**
 * Measures the CPU time of a complete login in the process of each relying party. A login runs so much code that the
 * compiler needs thousands of logins to optimise it. So the processes run through all rounds.
 */
export async function measureLogins (
  driver: Child,
  parties: RelyingParty[],
  options: ServerOptions,
  settings: Settings
): Promise<number[][]> {
  const running: Running[] = []
  for (const party of parties) running.push(await start(party, driver, options, settings))
  for (let round = 0; round < settings.loginRounds; round += 1) {
    for (const each of order(running, round)) await measure(each, settings.logins)
  }
  await Promise.all(running.map(({ server }) => server.stop()))
  return running.map(({ samples }) => samples)
}

async function start (
  { server: file, login, options: own }: RelyingParty,
  driver: Child,
  options: ServerOptions,
  { loginWarmUp, loginConcurrency: concurrency }: Settings
): Promise<Running> {
  const server = startServer(file)
  const port = await server.ask('listen', { ...options, ...own })
  const logIn = (count: number) => driver.ask('login', { port, login, count, concurrency })
  await logIn(loginWarmUp)
  return { server, logIn, samples: [] }
}

async function measure ({ server, logIn, samples }: Running, logins: number): Promise<void> {
  const before = await server.ask<Usage>('usage')
  await logIn(logins)
  const after = await server.ask<Usage>('usage')
  samples.push((after.cpu - before.cpu) / logins)
}
