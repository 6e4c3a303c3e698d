import { randomBytes } from 'node:crypto'
import { availableParallelism, cpus } from 'node:os'
import { pinned, startChild } from './child.ts'
import { measureLogins } from './login-cost.ts'
import { report, type Letter } from './report.ts'
import { measureRequests, type Case, type Result } from './requests.ts'
import type { ServerOptions } from './servers/serve.ts'
import { settings as read } from './settings.ts'
import { measureStart } from './start.ts'

const settings = read(process.argv)
const { steadySessions, sessions } = settings

const cases: Record<Letter, Case> = {
  a: { server: 'bare', path: '/', sessions: 0 },
  b: { server: 'bare', path: '/', sessions: steadySessions },
  c: { server: 'plugin', path: '/', sessions: steadySessions },
  d: { server: 'plugin', path: '/me', sessions: steadySessions },
  e: { server: 'plugin', path: '/me', sessions }
}

const began = Date.now()
const driver = startChild('driver', 'driver')
const provider = startChild('provider', 'driver')
const options: ServerOptions = {
  issuer: await provider.ask<string>('listen'),
  key: randomBytes(32).toString('base64')
}

const cookies = await createSessions()
const requests = await measureRequests(driver, Object.values(cases), options, settings)
const logins = await measureLogins(driver, options, settings)
const start = await measureStart(options, settings)
await Promise.all([driver.stop(), provider.stop()])

console.log(machine())
console.log(conditions(requests))
console.log()
console.log(report({ requests: byLetter(requests), logins, start }))

/** Real logins through the plugin, on both cores: what it makes of them is measured later. */
async function createSessions (): Promise<{ bytes: number }> {
  await Promise.all([loginsOnAnyCore(sessions / 2), loginsOnAnyCore(sessions / 2)])
  const created = await driver.ask<{ distinct: number, bytes: number }>('sessions')
  if (created.distinct !== sessions) throw new Error(`${sessions} logins made ${created.distinct} sessions`)
  return created
}

async function loginsOnAnyCore (count: number): Promise<void> {
  const server = startChild('servers/plugin', 'any')
  const port = await server.ask('listen', options)
  await driver.ask('createSessions', { issuer: options.issuer, port, count, concurrency: settings.loginConcurrency })
  await server.stop()
}

function byLetter (results: Result[]): Record<Letter, Result> {
  const letters = Object.keys(cases)
  return Object.fromEntries(results.map((result, at) => [letters[at], result])) as Record<Letter, Result>
}

function machine (): string {
  return `Node ${process.version}, ${cpus()[0]?.model.trim()}, ${availableParallelism()} cores, ${pinned ? 'server and driver on one each' : 'not pinned'}`
}

function conditions (results: Result[]): string {
  const busiest = Math.max(...results.flatMap(({ driverShare }) => driverShare))
  const seconds = Math.round((Date.now() - began) / 1000)
  return `${settings.sets * settings.rounds} rounds of ${settings.window} ms, medians; ${settings.connections} connections; ` +
    `${sessions} sessions with ${cookies.bytes} bytes of cookies; driver at most ${Math.round(busiest * 100)} % busy; ${seconds} s in all`
}
