import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { createMemoryStore } from '../lib/store/memory.ts'
import { createRedisStore } from '../lib/store/redis.ts'
import { REDIS, redisAnswers } from './stores.ts'
import type { Store } from '../types/store.ts'

/**
 * How long others wait while one call works on a store with 100,000 entries of one tag: requests of this process
 * (memory), and other clients of the server (Redis). Prints the longest wait during each call.
 */

const COUNT = 100_000
const ENTRIES = Array.from({ length: COUNT }, (_, index) => `session:${index.toString(36).padStart(43, '0')}`)
const VALUE = 'x'.repeat(3500)
const PREFIX = 'oidc_bench_blocking'
const expiresAt = Math.floor(Date.now() / 1000) + 3600

/** Measures the longest wait of others while `work` runs, in milliseconds. */
type Measure = (work: () => Promise<unknown>) => Promise<number>

async function fill (store: Store, end: number): Promise<void> {
  for (let at = 0; at < COUNT; at += 500) {
    await Promise.all(ENTRIES.slice(at, at + 500).map(async (key, index) => {
      await store.set(key, VALUE, { expiresAt: end, tags: ['provider', `sub-${at + index}`] })
    }))
    await nextTurn()
  }
}

async function listAll (store: Store): Promise<void> {
  let [count, after] = [0, '']
  for (;;) {
    const page = await store.list('provider', { after })
    await nextTurn()
    if (page.length === 0) break
    count += page.length
    after = page.at(-1)?.key as string
  }
  if (count !== COUNT) throw new Error(`${count} entries were listed`)
}

async function report (name: string, store: Store, measure: Measure, expire: () => Promise<unknown>): Promise<void> {
  const calls: Array<[string, () => Promise<unknown>]> = [
    ['fill', async () => await fill(store, expiresAt)],
    ['list, one page', async () => await store.list('provider')],
    ['list, all pages', async () => await listAll(store)],
    ['set, replace, take', async () => {
      await store.set('one', 'x', { expiresAt, tags: ['provider'] })
      await store.replace('one', 'x', 'y', expiresAt + 60)
      await store.take('one')
    }],
    ['purge, nothing to do', async () => await store.purge()],
    ['purge, all has expired', async () => await store.purge()],
    ['list, all has expired', async () => await store.list('provider')]
  ]
  for (const [what, work] of calls) {
    if (what === 'purge, all has expired') await expire()
    const began = performance.now()
    const longest = await measure(work)
    const took = performance.now() - began
    console.log(`${name.padEnd(8)}${what.padEnd(26)}${took.toFixed(0).padStart(8)} ms${longest.toFixed(1).padStart(10)} ms`)
  }
}

const measureLoop: Measure = async (work) => {
  const lag = monitorEventLoopDelay({ resolution: 1 })
  lag.enable()
  await delay(10)
  lag.reset()
  await work()
  await delay(10)
  lag.disable()
  return lag.max / 1e6
}

async function reportMemory (): Promise<void> {
  const { now } = Date
  await report('memory', createMemoryStore({ max: 2 * COUNT }), measureLoop, async () => { Date.now = () => now() + 7_200_000 })
  Date.now = now
}

async function reportRedis (): Promise<void> {
  const client = new Redis(REDIS, { enableAutoPipelining: true })
  const store = await createRedisStore({ client, prefix: PREFIX })
  const removeAll = async (pattern: string): Promise<void> => {
    for await (const keys of client.scanStream({ match: pattern, count: 1000 })) {
      if (keys.length > 0) await client.unlink(...keys as string[])
    }
  }
  await removeAll(`{${PREFIX}}*`)
  const [, threshold] = await client.config('GET', 'slowlog-log-slower-than')
  try {
    // SLOWLOG has the time that each command took in the server, which is how long others have waited: 0 is below 1 ms.
    await client.config('SET', 'slowlog-log-slower-than', '1000')
    await report('redis', store, async (work) => {
      await client.slowlog('RESET')
      await work()
      const log = await client.slowlog('GET', '128') as Array<[number, number, number, string[]]>
      const own = log.filter(([, , , [command]]) => /^(?:eval|hmget|scan)$/i.test(command as string))
      return Math.max(0, ...own.map(([, , microseconds]) => microseconds)) / 1000
    }, async () => await removeAll(`{${PREFIX}}:entry:*`))
  } finally {
    await client.config('SET', 'slowlog-log-slower-than', threshold as string)
    await removeAll(`{${PREFIX}}*`)
    client.disconnect()
  }
}

console.log(`${'store'.padEnd(8)}${'call'.padEnd(26)}${'took'.padStart(11)}${'others wait'.padStart(13)}`)
await reportMemory()
if (await redisAnswers()) await reportRedis()
else console.log(`redis   skipped: no Redis at ${new URL(REDIS).host}`)
