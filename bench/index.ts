import { randomBytes } from 'node:crypto'
import { availableParallelism, cpus } from 'node:os'
import { pinned, startChild } from './child.ts'
import { measureLogins } from './login-cost.ts'
import { report, type Letter } from './report.ts'
import { measureRequests, type Case, type Kind, type Result } from './requests.ts'
import type { ServerOptions } from './servers/serve.ts'
import { settings as read } from './settings.ts'
import { measureStart } from './start.ts'
import { REDIS, redisAnswers, reportStores } from './stores.ts'

const settings = read(process.argv)
const { steadySessions, crowd, sessions, tokens } = settings
const hasRedis = await redisAnswers()

const stored = { server: 'plugin', path: '/me', sessions: steadySessions, kind: 'store' } as const
const cases: { [Each in Letter]?: Case } = {
  a: { server: 'bare', path: '/', sessions: 0 },
  b: { server: 'bare', path: '/', sessions: steadySessions },
  c: { server: 'plugin', path: '/', sessions: steadySessions },
  d: { server: 'plugin', path: '/me', sessions: steadySessions },
  e: { server: 'plugin', path: '/me', sessions },
  t: { server: 'plugin', path: '/me', sessions: crowd },
  n: { server: 'bare', path: '/', sessions: steadySessions, kind: 'tokens' },
  o: { server: 'plugin', path: '/me', sessions: steadySessions, kind: 'tokens' },
  p: { server: 'plugin', path: '/me', sessions: tokens, kind: 'tokens' },
  q: { server: 'by-jose', path: '/me', sessions: tokens, kind: 'tokens' },
  r: { server: 'by-fastify-jwt', path: '/me', sessions: steadySessions, kind: 'tokens' },
  s: { server: 'by-fastify-jwt-jwks', path: '/me', sessions: steadySessions, kind: 'tokens' },
  ...(hasRedis && {
    h: { server: 'bare', path: '/', sessions: steadySessions, kind: 'store' },
    i: { ...stored, options: { store: REDIS } },
    j: { ...stored, options: { store: REDIS, recheckAfter: 1 } }
  })
}

const began = Date.now()
const driver = startChild('driver', 'driver')
const provider = startChild('provider', 'driver')
const options: ServerOptions = {
  issuer: await provider.ask<string>('listen'),
  key: randomBytes(32).toString('base64'),
  publicKey: await provider.ask<string>('publicKey')
}

const cookies = await createSessions()
if (hasRedis) await loginsOnAnyCore(steadySessions, 'store', { ...options, store: REDIS })
for (let made = 0; made < tokens; made += 1000) {
  await driver.ask('keepTokens', await provider.ask('accessTokens', { issuer: options.issuer, count: 1000 }))
}
const requests = await measureRequests(driver, Object.values(cases), options, settings)
const logins = await measureLogins(driver, options, settings)
const start = await measureStart(options, settings)
const stores = await reportStores(provider, options, hasRedis)
await Promise.all([driver.stop(), provider.stop()])

console.log(machine())
console.log(conditions(requests))
console.log()
console.log(report({ requests: byLetter(requests), logins, start }))
console.log()
console.log(stores)

/** Logs in through the plugin, on both cores. The sessions are measured later. */
async function createSessions (): Promise<{ bytes: number }> {
  await Promise.all([
    loginsOnAnyCore(sessions / 2, 'cookies', options),
    loginsOnAnyCore(sessions / 2, 'cookies', options)
  ])
  const created = await driver.ask<{ distinct: number; bytes: number }>('sessions', 'cookies')
  if (created.distinct !== sessions) throw new Error(`${sessions} logins created ${created.distinct} sessions`)
  return created
}

async function loginsOnAnyCore (count: number, kind: Kind, options: ServerOptions): Promise<void> {
  const server = startChild('servers/plugin', 'any')
  const port = await server.ask('listen', options)
  await driver.ask('createSessions', {
    issuer: options.issuer,
    port,
    kind,
    count,
    concurrency: settings.loginConcurrency
  })
  await server.stop()
}

function byLetter (results: Result[]): Parameters<typeof report>[0]['requests'] {
  const letters = Object.keys(cases)
  return Object.fromEntries(results.map((result, at) => [letters[at], result])) as Parameters<
    typeof report
  >[0]['requests']
}

function machine (): string {
  return `Node ${process.version}, ${cpus()[0]?.model.trim()}, ${availableParallelism()} cores, ${pinned ? 'server and driver on one core each' : 'not pinned to cores'}`
}

function conditions (results: Result[]): string {
  const leastIdle = Math.min(...results.flatMap(({ idleShare }) => idleShare))
  const seconds = Math.round((Date.now() - began) / 1000)
  return (
    `medians of ${settings.sets * settings.rounds} rounds of ${settings.window} ms; ${settings.connections} connections; ` +
    `${sessions} sessions with ${cookies.bytes} bytes of cookies; driver idle at least ${Math.round(leastIdle * 100)} %; ${seconds} s in total`
  )
}
