import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { startChild } from './child.ts'
import { ORIGIN } from './soak/application.ts'
import { createForgedLogins } from './soak/forged.ts'
import { simulateAttackers } from './soak/hostile.ts'
import { createLedger } from './soak/ledger.ts'
import { simulateAnonymous } from './soak/anonymous.ts'
import { simulateUsers } from './soak/users.ts'
import { openRemote } from './soak/remote.ts'
import { report } from './soak/report.ts'
import { settings as read } from './soak/settings.ts'
import { createOutages } from './soak/outages.ts'
import { openProcess } from './soak/world.ts'
import type { ProcessReport } from './soak/app.ts'
import type { ForgedLogins } from './soak/forged.ts'
import type { ProviderReport } from './soak/provider.ts'
import type { Remote } from './soak/remote.ts'
import type { World } from './soak/world.ts'

/**
 * Runs the plugin under mixed traffic: a provider that rotates its keys and has outages, two processes of an
 * application, users, anonymous requests and attackers. `soak [seconds] [--quick]` exits with 1 when something happened
 * that must never happen.
 */

const settings = read(process.argv)
const PROCESSES = 2

const providerChild = startChild('soak/provider', 'any')
const children = Array.from({ length: PROCESSES }, () => startChild('soak/app', 'any', ['--expose-gc']))
const watchdog = setTimeout(
  () => {
    console.error('the soak test did not end in time')
    process.exit(1)
  },
  (settings.seconds + settings.warmUp + 120) * 1000
)

const options = { issuer: await providerChild.ask<string>('listen'), key: randomBytes(32).toString('base64') }
const ledger = createLedger()
const outages = createOutages(providerChild, settings.betweenOutages)
const ports = await Promise.all(children.map(async (child) => await child.ask<number>('listen', options)))
const processes = ports.map((port) => openProcess(port, options.issuer, outages, ledger))
const forged = await createForgedLogins(options)

const recovery = await recoverFromAbsence(ports.map((port) => openRemote(port, () => {})))
await runTraffic(settings.warmUp)
const before = await reports()
await providerChild.ask('report')
ledger.restart()
const outagesBefore = outages.count
await runTraffic(settings.seconds / 2)
const middle = await reports()
await runTraffic(settings.seconds / 2)
const after = await reports()

console.log(report({
  ledger,
  seconds: settings.seconds,
  recovery,
  outages: outages.count - outagesBefore,
  provider: await providerChild.ask<ProviderReport>('report'),
  processes: children.map((_, index) => [before, middle, after].map((reports) => reports[index] as ProcessReport))
}))
await end()
process.exitCode = ledger.wrongs.size === 0 ? 0 : 1

/**
 * Sends the first logins while the provider is unreachable. Returns how long logins still fail after it is reachable
 * again, in seconds.
 */
async function recoverFromAbsence (remotes: Remote[]): Promise<number> {
  await providerChild.ask('startOutage', { on: 'metadata', status: 503 })
  const statuses = await Promise.all(remotes.map(loginStatus))
  if (statuses.some((status) => status !== 503)) {
    ledger.wrong('unexpected answers', `while the provider is unreachable, a login is answered with ${statuses.join(' and ')}`)
  }
  await providerChild.ask('endOutage')
  const from = Date.now()
  while ((await Promise.all(remotes.map(loginStatus))).some((status) => status !== 302)) {
    if (Date.now() - from > 15_000) throw new Error('logins still fail 15 seconds after the provider is reachable again')
    await sleep(200)
  }
  for (const remote of remotes) remote.close()
  return (Date.now() - from) / 1000
}

async function loginStatus (remote: Remote): Promise<number> {
  const { statusCode } = await remote.send({
    method: 'GET',
    url: '/auth/login',
    headers: { host: new URL(ORIGIN).host, accept: 'text/html' }
  })
  return statusCode
}

/** Runs all kinds of traffic for a number of seconds, and waits until every request has ended. */
async function runTraffic (seconds: number): Promise<void> {
  const until = Date.now() + seconds * 1000
  const isOver = (): boolean => Date.now() >= until || ledger.get('requests') >= settings.maxRequests
  const world: World = { issuer: options.issuer, processes, outages, ledger, isOver }
  await Promise.all([outages.run(until), ...startTraffic(world, forged)])
}

function startTraffic (world: World, forged: ForgedLogins): Array<Promise<void>> {
  const times = (count: number, run: () => Promise<void>): Array<Promise<void>> => Array.from({ length: count }, run)
  return [
    ...times(settings.users, async () => await simulateUsers(world)),
    ...times(settings.attackers, async () => await simulateAttackers(world, forged)),
    ...times(settings.anonymous, async () => await simulateAnonymous(world))
  ]
}

async function reports (): Promise<ProcessReport[]> {
  return await Promise.all(children.map(async (child) => await child.ask<ProcessReport>('report')))
}

async function end (): Promise<void> {
  clearTimeout(watchdog)
  for (const { remote } of processes) remote.close()
  await Promise.all([forged.close(), ...children.map(async (child) => await child.ask('close'))])
  await Promise.all([providerChild, ...children].map(async (child) => await child.stop()))
}
