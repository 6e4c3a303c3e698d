import type { Usage } from './answer.ts'
import { startChild, type Child } from './child.ts'
import { rotate } from './figures.ts'
import type { ServerOptions } from './servers/serve.ts'
import type { Settings } from './settings.ts'

export type RelyingParty = 'plugin' | 'by-hand'

interface Running {
  server: Child
  logIn: (count: number) => Promise<unknown>
  /** CPU time per login in microseconds, one value per round. */
  samples: number[]
}

/**
 * Measures the CPU time of a complete login in the process of the relying party. A login runs so much code that the
 * compiler needs thousands of logins to optimise it. So both processes run through all rounds.
 */
export async function measureLogins (
  driver: Child,
  options: ServerOptions,
  settings: Settings
): Promise<Record<RelyingParty, number[]>> {
  const byHand = await start('by-hand', driver, options, settings)
  const plugin = await start('plugin', driver, options, settings)
  for (let round = 0; round < settings.loginRounds; round += 1) {
    for (const running of rotate([byHand, plugin], round)) await measure(running, settings.logins)
  }
  await Promise.all([byHand.server.stop(), plugin.server.stop()])
  return { 'by-hand': byHand.samples, plugin: plugin.samples }
}

async function start (file: RelyingParty, driver: Child, options: ServerOptions, settings: Settings): Promise<Running> {
  const { loginWarmUp, loginConcurrency: concurrency } = settings
  const server = startChild(`servers/${file}`, 'server')
  const port = await server.ask('listen', options)
  const logIn = (count: number) => driver.ask('login', { issuer: options.issuer, port, count, concurrency })
  await logIn(loginWarmUp)
  return { server, logIn, samples: [] }
}

async function measure ({ server, logIn, samples }: Running, logins: number): Promise<void> {
  const before = await server.ask<Usage>('usage')
  await logIn(logins)
  const after = await server.ask<Usage>('usage')
  samples.push((after.cpu - before.cpu) / logins)
}
