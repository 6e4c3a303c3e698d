import { setMaxListeners } from 'node:events'
import { startProvider } from '../../lib/testing/index.ts'
import { answer } from '../answer.ts'
import { CLIENT } from './application.ts'
import type { Fault, Provider } from '../../lib/testing/index.ts'

/** The provider of the test kit in a process of its own, with keys that rotate all the time. */

export interface ProviderReport {
  rotations: number
  /** Requests by endpoint; those for tokens by grant. */
  counts: Record<string, number>
}

const ROTATE_EVERY = 2000 // milliseconds
const KEPT_KEYS = 3 // a provider still publishes the keys of tokens that are on their way
const ACCESS_TOKEN_TTL = 34 // seconds: the plugin refreshes 30 seconds before the end
const counts: Record<string, number> = {}
let provider: Provider
let rotations = 0

function rotate (): void {
  provider.rotateKeys({ keep: true })
  rotations += 1
}

/** The provider remembers every request; here only their numbers matter. */
function tally (): void {
  for (const { endpoint, body } of provider.requests) {
    const name = endpoint === 'token' ? `token ${body['grant_type']}` : endpoint
    counts[name] = (counts[name] ?? 0) + 1
  }
  provider.clearRequests()
}

function publishNewestKeys (): void {
  provider.fault({ on: 'jwks', jwks: ({ keys }) => ({ keys: keys.slice(-KEPT_KEYS) }) })
}

setMaxListeners(0) // every request that has to wait listens to the one signal of the provider's end

answer({
  async listen () {
    provider = await startProvider({
      clients: [CLIENT],
      accessTokenFormat: 'jwt',
      accessTokenTtl: ACCESS_TOKEN_TTL,
      refreshTokens: 'always',
      requirePkce: true,
      approve: ({ login_hint: sub }) => sub
    })
    publishNewestKeys()
    setInterval(rotate, ROTATE_EVERY)
    setInterval(tally, 500)
    return provider.issuer
  },
  trouble (fault: Fault) {
    provider.fault(fault)
  },
  calm () {
    provider.clearFaults()
    publishNewestKeys()
  },
  /** What was since the last report. */
  report (): ProviderReport {
    tally()
    const report = { rotations, counts: { ...counts } }
    for (const name of Object.keys(counts)) delete counts[name]
    rotations = 0
    return report
  }
})
