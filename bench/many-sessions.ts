import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import Fastify from 'fastify'
import oidc from '../index.ts'
import { partsOf } from '../lib/decorator.ts'
import { openStore } from '../lib/store/open.ts'
import { fewAtATime } from '../lib/util/few-at-a-time.ts'
import { now } from '../lib/util/time.ts'
import { redisAnswers } from './stores.ts'
import { table } from './table.ts'
import type { Store } from '../types/store.ts'

/**
 * What 100,000 sessions of one provider cost in each store: to list, to revoke and to purge them. For each: the time,
 * and how long the event loop stood still at most. `node dist/bench/many-sessions.js [count] [address…]`; the addresses
 * must be of empty stores.
 */

const [count = '100000', ...addresses] = process.argv.slice(2)
const COUNT = Number(count)
const ISSUER = 'https://id.example.com'
const folder = mkdtempSync(join(tmpdir(), 'oidc-bench-'))
const postgres = process.env['OIDC_TEST_POSTGRES'] ?? 'postgres://root@127.0.0.1:5432/test'
const usual = ['memory:', `sqlite:${join(folder, 'bench.db')}`, postgres, ...await redisAnswers() ? ['redis://127.0.0.1:6379'] : []]

interface Measured {
  took: string
  block: string
}

async function measure (work: () => Promise<unknown>): Promise<Measured> {
  const delays = monitorEventLoopDelay({ resolution: 1 })
  delays.enable()
  const began = performance.now()
  await work()
  const took = performance.now() - began
  delays.disable()
  return { took: `${(took / 1000).toFixed(1)} s`, block: `${(delays.max / 1e6).toFixed(0)} ms` }
}

async function eachOfCount (work: (index: number) => Promise<unknown>): Promise<void> {
  const indexes = Array.from({ length: COUNT }, (_, index) => index)
  await fewAtATime(indexes.values(), 8, async (index) => { await work(index) })
}

async function measureStore (address: string): Promise<string[][]> {
  const store = await openStore(address)
  const { app, ...parts } = await register(store)
  const records = parts.records as NonNullable<typeof parts.records>
  const [provider] = parts.providers.all()
  if (provider === undefined) throw new Error('no provider')
  const rows: Array<[string, Measured]> = [['fill', await measure(async () => await eachOfCount(async (index) => {
    const session = {
      id: `session-${index}`,
      provider: provider.settings.name,
      sid: `sid-${index}`,
      scopes: ['openid'],
      createdAt: now(),
      expiresAt: now() + 3600,
      authTime: now()
    }
    const tokens = { access_token: randomBytes(750).toString('base64url'), token_type: 'bearer', expires_at: now() + 300 }
    await records.create({ issuedBy: provider.id, session, claims: { iss: ISSUER, sub: `user-${index}` }, user: null, loginAt: Date.now() } as never, tokens)
  }))]]
  const filter = { provider: provider.settings.name }
  rows.push(['list', await measure(async () => check((await app.oidc.sessions.list(filter)).length))])
  rows.push(['revoke', await measure(async () => check(await app.oidc.sessions.revoke(filter)))])
  await eachOfCount(async (index) => await store.set(`expired-${index}`, 'x'.repeat(1000), {
    expiresAt: now() - 1, tags: ['a', `b-${index}`]
  }))
  let purged = ''
  rows.push(['purge', await measure(async () => { purged = JSON.stringify(await parts.purge()) })])
  await app.close()
  await store.close()
  const name = address.split(':', 1)[0] as string
  return rows.map(([work, { took, block }]) => [`${name}: ${work}`, took, block, work === 'purge' ? purged : ''])
}

async function register (store: Store) {
  const app = Fastify({ logger: { level: 'warn' } })
  await app.register(oidc, {
    metadata: {
      issuer: ISSUER,
      authorization_endpoint: `${ISSUER}/authorize`,
      token_endpoint: `${ISSUER}/token`,
      jwks_uri: `${ISSUER}/jwks`
    },
    clientId: 'web',
    clientSecret: 'secret',
    baseUrl: 'https://app.example.com',
    store,
    session: { key: randomBytes(32).toString('base64'), store: true }
  })
  const { records, providers } = partsOf(app.oidc)
  const { purge } = await import('../lib/store/purge.ts')
  return { app, records, providers, purge: async () => await purge(store) }
}

function check (found: number): void {
  if (found !== COUNT) throw new Error(`${found} sessions instead of ${COUNT}`)
}

const rows = [[`${COUNT.toLocaleString('en')} sessions`, 'time', 'longest block', '']]
for (const address of addresses.length > 0 ? addresses : usual) rows.push(...await measureStore(address))
rmSync(folder, { recursive: true })
console.log(table(rows))
