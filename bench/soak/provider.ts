import { createHash, generateKeyPair } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { promisify } from 'node:util'
import { startProvider } from '../../lib/testing/index.ts'
import { createKeyRing, releaseKeys } from '../../lib/testing/provider/keys.ts'
import { answer } from '../answer.ts'
import { API, CLIENT, TENANTS } from './application.ts'
import type { AccessTokenOptions, Fault, Provider, ProviderRequest } from '../../lib/testing/index.ts'
import type { Issuers } from './application.ts'

/**
 * The providers of the test kit in their own process: that of the application, which rotates its keys all the time, and
 * those of the tenants.
 */

export interface ProviderReport {
  rotations: number
  /** Requests by endpoint; token requests by grant type. */
  counts: Record<string, number>
}

/** When a refresh token came that was answered before, in milliseconds since the epoch. */
export interface RefreshReport {
  refreshes: number
  repeated: number[]
}

/** A token to mint, by the provider of the application or of a tenant. */
export interface MintCommand {
  tenant?: string
  kind?: 'accessToken' | 'idToken'
  options: AccessTokenOptions
}

const KEPT_KEYS = 8 // older keys stay published, for tokens that were just issued
const ACCESS_TOKEN_TTL = 34 // seconds: the plugin refreshes 30 seconds before the end
const MAX_KNOWN = 100_000 // refresh tokens

const providers = new Map<string, Provider>()
const counts: Record<string, number> = {}
let rotations = 0
let users = 0

/** Keys are made before the load begins: to make one takes a tenth of a second, in which nothing is answered. */
const stock = createKeyRing()
const rotating: typeof stock.taken = []

async function makeKeys (count: number): Promise<typeof stock.taken> {
  return await Promise.all(Array.from({ length: count }, () => promisify(generateKeyPair)('rsa', { modulusLength: 2048 })))
}

function lend (...pairs: typeof stock.taken): void {
  stock.taken.push(...pairs)
  releaseKeys(stock)
}

function rotate (main: Provider): void {
  const [next, ...others] = rotating.splice(0) as [typeof stock.taken[number], ...typeof stock.taken]
  rotating.push(...others, next)
  lend(next)
  main.rotateKeys({ keep: true })
  rotations += 1
}

let known = new Set<string>()
let refreshReport: RefreshReport = { refreshes: 0, repeated: [] }
let isTokenEndpointDown = false

/** Refresh tokens are good once: a request with one that was answered before is a second use. */
function noteRefresh ({ body }: ProviderRequest): void {
  if (body['grant_type'] !== 'refresh_token') return
  refreshReport.refreshes += 1
  if (isTokenEndpointDown) return
  const hash = createHash('sha256').update(String(body['refresh_token'])).digest('base64')
  if (known.has(hash)) refreshReport.repeated.push(Date.now())
  if (known.size >= MAX_KNOWN) known = new Set()
  known.add(hash)
}

function keepRules (provider: Provider): void {
  provider.fault({ on: 'jwks', jwks: ({ keys }) => ({ keys: keys.slice(-KEPT_KEYS) }) })
  provider.fault({
    on: 'token',
    when (request) {
      noteRefresh(request)
      return false
    }
  })
}

/** Counts the requests and makes the providers forget them, so that memory does not grow. */
function tally (): void {
  for (const provider of providers.values()) {
    for (const { endpoint, body } of provider.requests) {
      const name = endpoint === 'token' ? `token ${body['grant_type']}` : endpoint
      counts[name] = (counts[name] ?? 0) + 1
    }
    provider.clearRequests()
  }
}

function nextUser (): string {
  users += 1
  return `user ${users} of a program`
}

async function open (name: string): Promise<string> {
  const provider = await startProvider({
    clients: [CLIENT],
    accessTokenFormat: 'jwt',
    accessTokenAudience: API,
    accessTokenTtl: ACCESS_TOKEN_TTL,
    refreshTokens: 'always',
    requirePkce: true,
    // A program cannot say who its user is.
    approve: ({ login_hint: sub }) => sub ?? nextUser()
  })
  keepRules(provider)
  // Takes the keys that are not in the key set, and those that are.
  provider.accessToken({ signWith: 'other-key' })
  provider.jwks()
  providers.set(name, provider)
  return provider.issuer
}

const main = (): Provider => providers.get('main') as Provider

setMaxListeners(0) // every delayed request listens to the one signal that the provider closes

answer({
  async listen ({ rotateEvery }: { rotateEvery: number }): Promise<Issuers> {
    const names = ['main', ...TENANTS]
    lend(...await makeKeys(2 * names.length + 3))
    const [issuer = '', ...others] = await Promise.all(names.map(open))
    rotating.push(...await makeKeys(6))
    lend(...rotating.slice(-3))
    setInterval(() => rotate(main()), rotateEvery)
    setInterval(tally, 500)
    return { issuer, tenants: Object.fromEntries(TENANTS.map((name, at) => [name, others[at] as string])) }
  },
  startOutage (fault: Fault) {
    main().fault(fault)
    isTokenEndpointDown = fault.on === 'token'
  },
  endOutage () {
    main().clearFaults()
    keepRules(main())
    isTokenEndpointDown = false
  },
  mint: ({ tenant = 'main', kind = 'accessToken', options }: MintCommand) =>
    (providers.get(tenant) as Provider)[kind](options),
  logoutToken: (sub: string) => main().logoutToken({ sub }),
  /** All refreshes since the last call. */
  refreshes (): RefreshReport {
    const report = refreshReport
    refreshReport = { refreshes: 0, repeated: [] }
    return report
  },
  /** Everything since the last report. */
  report (): ProviderReport {
    tally()
    const report = { rotations, counts: { ...counts } }
    for (const name of Object.keys(counts)) delete counts[name]
    rotations = 0
    return report
  }
})
