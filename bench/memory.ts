import { randomBytes } from 'node:crypto'
import Fastify from 'fastify'
import oidc from '../index.ts'
import { sessionCookie, startClock, startProvider } from '../lib/testing/index.ts'
import { heapInUse } from './memory/heap.ts'
import { openMaps } from './memory/maps.ts'
import { measureMaps } from './memory/measure.ts'

/**
 * The bytes that stay in use for each used login and for each opened session. Both come with requests of 16 kB, which
 * must not stay with them: a string that was cut out of a header keeps the whole header. And the time that a hundred
 * providers of the test kit take to start. Then a table in Markdown: each map that has a bound is filled to it, and all
 * that is in it is replaced by new entries, which must need no more memory. All stay full until the end. Exits with 1
 * when a figure is over its limit, or a map has grown.
 */

const WARM_UP = 50
const ROUNDS = 300
const BASE_URL = 'https://app.example.com'
const LIMITS = { bytes: 8000, milliseconds: 3000 }

/** The bytes that are still in use after the work, for each time that it was done. */
async function retainedBy (work: () => Promise<void>): Promise<number> {
  for (let count = 0; count < WARM_UP; count++) await work()
  const before = await heapInUse()
  for (let count = 0; count < ROUNDS; count++) await work()
  return Math.round((await heapInUse() - before) / ROUNDS)
}

const provider = await startProvider()
const app = Fastify()
await app.register(oidc, {
  issuer: provider.issuer,
  clientId: 'web',
  clientSecret: provider.clients[0]?.client_secret as string,
  baseUrl: BASE_URL,
  allowInsecureLoopback: true,
  session: { key: randomBytes(32).toString('base64') }
})
app.get('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims }) => oidcClaims)

const padding = Array.from({ length: 4 }, (_, index) => `padding${index}=${'x'.repeat(4000)}`)
const navigation = { accept: 'text/html', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }

async function useLogin (): Promise<void> {
  const { headers, cookies } = await app.inject({ url: '/auth/login', headers: navigation })
  const state = new URL(headers.location as string).searchParams.get('state') as string
  const cookie = cookies.map(({ name, value }) => `${name}=${value}`).join('; ')
  const { body } = await app.inject({
    url: `/auth/callback?error=x&state=${state}&iss=${provider.issuer}&${padding.join('&')}`,
    headers: { ...navigation, cookie }
  })
  if (!body.includes('FST_OIDC_PROVIDER_REFUSED')) throw new Error(body)
}

async function openSession (): Promise<void> {
  const request = { url: '/me', headers: { cookie: `${sessionCookie(app)}; ${padding.join('; ')}` } }
  for (let count = 0; count < 2; count++) {
    if ((await app.inject(request)).statusCode !== 200) throw new Error('not logged in')
  }
}

async function startHundredProviders (): Promise<number> {
  const before = performance.now()
  for (let count = 0; count < 100; count++) await (await startProvider()).close()
  return Math.round(performance.now() - before)
}

const rows = [
  { what: 'bytes for a used login', figure: await retainedBy(useLogin), limit: LIMITS.bytes },
  { what: 'bytes for an opened session', figure: await retainedBy(openSession), limit: LIMITS.bytes },
  { what: 'ms to start 100 providers', figure: await startHundredProviders(), limit: LIMITS.milliseconds }
]
for (const { what, figure, limit } of rows) console.log(`${what.padEnd(30)}${String(figure).padStart(8)}  (< ${limit})`)
await app.close()
await provider.close()

const clock = startClock()
const { maps, close } = await openMaps(clock)
const areFlat = await measureMaps(maps)
await close()
clock.restore()
process.exitCode = areFlat && rows.every(({ figure, limit }) => figure < limit) ? 0 : 1
