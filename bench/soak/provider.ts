import { setMaxListeners } from 'node:events'
import { startProvider } from '../../lib/testing/index.ts'
import { answer } from '../answer.ts'
import { CLIENT } from './application.ts'
import type { Fault, Provider } from '../../lib/testing/index.ts'

/** The provider of the test kit in its own process. It rotates its keys all the time. */

export interface ProviderReport {
  rotations: number
  /** Requests by endpoint; token requests by grant type. */
  counts: Record<string, number>
}

const ROTATE_EVERY = 2000 // milliseconds
const KEPT_KEYS = 3 // older keys stay published, for tokens that were just issued
const ACCESS_TOKEN_TTL = 34 // seconds: the plugin refreshes 30 seconds before the end
const counts: Record<string, number> = {}
let provider: Provider
let rotations = 0

function rotate (): void {
  provider.rotateKeys({ keep: true })
  rotations += 1
}

/** Counts the requests and makes the provider forget them, so that memory does not grow. */
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

setMaxListeners(0) // every delayed request listens to the one signal that the provider closes

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
  startOutage (fault: Fault) {
    provider.fault(fault)
  },
  endOutage () {
    provider.clearFaults()
    publishNewestKeys()
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
