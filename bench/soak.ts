import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { startChild } from './child.ts'
import { ORIGIN } from './soak/application.ts'
import { createForgedLogins } from './soak/forged.ts'
import { beHostile } from './soak/hostile.ts'
import { createLedger } from './soak/ledger.ts'
import { passBy } from './soak/passers-by.ts'
import { bePeople } from './soak/people.ts'
import { openRemote } from './soak/remote.ts'
import { report } from './soak/report.ts'
import { settings as read } from './soak/settings.ts'
import { createWeather } from './soak/weather.ts'
import { openProcess } from './soak/world.ts'
import type { ProcessReport } from './soak/app.ts'
import type { ForgedLogins } from './soak/forged.ts'
import type { ProviderReport } from './soak/provider.ts'
import type { Remote } from './soak/remote.ts'
import type { World } from './soak/world.ts'

/**
 * The plugin under mixed traffic for a while: a provider that rotates its keys and fails now and then, two processes of
 * an application, and people, passers-by and attackers. `soak [seconds] [--quick]`; exits with 1 when something
 * happened that must not.
 */

const settings = read(process.argv)
const PROCESSES = 2

const providerChild = startChild('soak/provider', 'any')
const children = Array.from({ length: PROCESSES }, () => startChild('soak/app', 'any', ['--expose-gc']))
const watchdog = setTimeout(
  () => {
    console.error('the soak does not end')
    process.exit(1)
  },
  (settings.seconds + settings.warmUp + 120) * 1000
)

const options = { issuer: await providerChild.ask<string>('listen'), key: randomBytes(32).toString('base64') }
const ledger = createLedger()
const weather = createWeather(providerChild, settings.betweenTroubles)
const ports = await Promise.all(children.map(async (child) => await child.ask<number>('listen', options)))
const processes = ports.map((port) => openProcess(port, options.issuer, weather, ledger))
const forged = await createForgedLogins(options)

const recovery = await recoverFromAbsence(ports.map((port) => openRemote(port, () => {})))
await live(settings.warmUp)
const before = await reports()
await providerChild.ask('report')
ledger.restart()
const troublesBefore = weather.troubles
await live(settings.seconds / 2)
const middle = await reports()
await live(settings.seconds / 2)
const after = await reports()

console.log(report({
  ledger,
  seconds: settings.seconds,
  recovery,
  troubles: weather.troubles - troublesBefore,
  provider: await providerChild.ask<ProviderReport>('report'),
  processes: children.map((_, index) => [before, middle, after].map((reports) => reports[index] as ProcessReport))
}))
await end()
process.exitCode = ledger.wrongs.size === 0 ? 0 : 1

/** The provider is away when the first logins come; how long after its return they work, in seconds. */
async function recoverFromAbsence (remotes: Remote[]): Promise<number> {
  await providerChild.ask('trouble', { on: 'metadata', status: 503 })
  const statuses = await Promise.all(remotes.map(loginStatus))
  if (statuses.some((status) => status !== 503)) {
    ledger.wrong('unexpected answers', `without a provider a login answers ${statuses.join(' and ')}`)
  }
  await providerChild.ask('calm')
  const from = Date.now()
  while ((await Promise.all(remotes.map(loginStatus))).some((status) => status !== 302)) {
    if (Date.now() - from > 15_000) throw new Error('the applications do not recover from a provider that was away')
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

/** All kinds of traffic for so many seconds; everything that has begun comes to its end. */
async function live (seconds: number): Promise<void> {
  const until = Date.now() + seconds * 1000
  const isOver = (): boolean => Date.now() >= until || ledger.get('requests') >= settings.mostRequests
  const world: World = { issuer: options.issuer, processes, weather, ledger, isOver }
  await Promise.all([weather.run(until), ...crowd(world, forged)])
}

function crowd (world: World, forged: ForgedLogins): Array<Promise<void>> {
  const times = (count: number, be: () => Promise<void>): Array<Promise<void>> => Array.from({ length: count }, be)
  return [
    ...times(settings.people, async () => await bePeople(world)),
    ...times(settings.attackers, async () => await beHostile(world, forged)),
    ...times(settings.passersBy, async () => await passBy(world))
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
