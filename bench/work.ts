import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Usage } from './answer.ts'
import { startChild, type Child } from './child.ts'
import type { Case, Kind } from './requests.ts'
import type { ServerOptions } from './servers/serve.ts'
import { table } from './table.ts'

/**
 * Whose code the CPU time of a request is spent in. A rate depends on what else the machine does and on the caches of
 * its processor; the share of the samples of a profile that are in the code of the plugin depends on them far less.
 */

const CONNECTIONS = 32
/** More than the plugin keeps opened (4,096), so that each session comes as if for the first time. */
const SESSIONS = 5000
/** The same for access tokens (10,000). */
const TOKENS = 12_000
/** In milliseconds: until the code is optimised, and while it is looked at. */
const [WARM_UP, WINDOW] = [5000, 4000]

const groups = ['plugin', 'libraries', 'Fastify', 'Node.js', 'GC', 'native'] as const
type Group = typeof groups[number]

const cases: Array<Case & { title: string, kind: Kind }> = [
  { title: 'b  bare Fastify, cookie ignored', server: 'bare', path: '/', sessions: SESSIONS, kind: 'cookies' },
  { title: 'd  plugin, 100 clients', server: 'plugin', path: '/me', sessions: 100, kind: 'cookies' },
  { title: 'e  plugin, new clients', server: 'plugin', path: '/me', sessions: SESSIONS, kind: 'cookies' },
  { title: 'n  bare Fastify, token ignored', server: 'bare', path: '/', sessions: TOKENS, kind: 'tokens' },
  { title: 'o  plugin, 100 tokens', server: 'plugin', path: '/me', sessions: 100, kind: 'tokens' },
  { title: 'p  plugin, new tokens', server: 'plugin', path: '/me', sessions: TOKENS, kind: 'tokens' },
  { title: 'q  jose.jwtVerify by hand', server: 'by-jose', path: '/me', sessions: TOKENS, kind: 'tokens' }
]

interface Frame { functionName: string, url: string }

interface Profile {
  nodes: Array<{ id: number, callFrame: Frame, children?: number[] }>
  samples: number[]
}

const driver = startChild('driver', 'driver')
const provider = startChild('provider', 'driver')
const options: ServerOptions = {
  issuer: await provider.ask<string>('listen'),
  key: randomBytes(32).toString('base64')
}
await createSessions()
for (let made = 0; made < TOKENS; made += 1000) {
  await driver.ask('keepTokens', await provider.ask('accessTokens', { issuer: options.issuer, count: 1000 }))
}
const rows: string[][] = [['request', 'CPU µs', ...groups]]
for (const each of cases) rows.push([each.title, ...await measure(each)])
await Promise.all([driver.stop(), provider.stop()])
console.log(table(rows))

async function createSessions (): Promise<void> {
  const server = startChild('servers/plugin', 'any')
  const port = await server.ask('listen', options)
  const { issuer } = options
  await driver.ask('createSessions', { issuer, port, kind: 'cookies', count: SESSIONS, concurrency: 8 })
  await server.stop()
}

async function measure ({ server: file, path, sessions, kind }: typeof cases[number]): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'oidc-work-'))
  const profiling = ['--cpu-prof', '--cpu-prof-interval=200', `--cpu-prof-dir=${folder}`]
  const server = startChild(`servers/${file}`, 'server', profiling)
  const port = await server.ask('listen', options)
  await driver.ask('start', { port, path, sessions, kind, connections: CONNECTIONS })
  await sleep(WARM_UP)
  const before = await look(server)
  await sleep(WINDOW)
  const after = await look(server)
  await driver.ask('stop')
  await server.stop()
  const shares = sharesOf(JSON.parse(readFileSync(join(folder, readdirSync(folder)[0] as string), 'utf8')) as Profile)
  rmSync(folder, { recursive: true })
  const cpu = (after.cpu - before.cpu) / (after.completed - before.completed)
  return [cpu.toFixed(1), ...groups.map((group) => (shares[group] * cpu).toFixed(1))]
}

async function look (server: Child): Promise<{ cpu: number, completed: number }> {
  const [{ cpu }, { completed, refused }] = await Promise.all([
    server.ask<Usage>('usage'), driver.ask<{ completed: number, refused: number }>('counts')
  ])
  if (refused > 0) throw new Error(`${refused} requests were refused`)
  return { cpu, completed }
}

/** The share of each group in the second half of a profile: in the first one, the code is not optimised yet. */
function sharesOf ({ nodes, samples }: Profile): Record<Group, number> {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]))
  const callers = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id] as const)))
  const counts = Object.fromEntries(groups.map((group) => [group, 0])) as Record<Group, number>
  let total = 0
  for (const sample of samples.slice(samples.length / 2)) {
    const { functionName } = frames.get(sample) as Frame
    if (functionName === '(idle)') continue
    total += 1
    counts[functionName === '(garbage collector)' ? 'GC' : groupOf(sample)] += 1
  }
  return Object.fromEntries(groups.map((group) => [group, counts[group] / total])) as Record<Group, number>

  /** What V8 runs without a file, such as a regular expression, belongs to its caller. */
  function groupOf (id: number | undefined): Group {
    if (id === undefined) return 'native'
    const { url } = frames.get(id) as Frame
    if (url === '') return groupOf(callers.get(id))
    if (url.startsWith('node:')) return 'Node.js'
    if (!url.includes('/node_modules/')) return url.includes('/lib/') ? 'plugin' : 'Fastify'
    return /\/node_modules\/(?:fastify|find-my-way|light-my-request|avvio|toad-cache)\//.test(url) ? 'Fastify' : 'libraries'
  }
}
