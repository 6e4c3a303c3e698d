import { setTimeout as sleep } from 'node:timers/promises'
import { TIMEOUT } from './application.ts'
import type { Child } from '../child.ts'

/** A fault of the provider that lasts a moment. */
interface Outage {
  fault: { on: 'metadata' | 'jwks' | 'token' | 'userinfo', status?: number, delay?: number, hang?: boolean }
  /** What the application cannot do during the outage. Empty when it has cached what it needs, or only waits. */
  excuses: Need[]
  /** How long the effects may continue after the end, in milliseconds. */
  lingers?: number
}

export type Need = 'login' | 'token' | 'userinfo'

interface Period extends Outage {
  from: number
  to: number
}

export interface Outages {
  /** Whether the provider could not be used for this at any time between the two, in milliseconds since the epoch. */
  wasBad: (need: Need, from: number, to: number) => boolean
  /** Whether the provider could not be used for at least one of these. */
  wasBadForAny: (from: number, to: number) => boolean
  /** Runs one outage after another, until a time in milliseconds since the epoch. */
  run: (until: number) => Promise<void>
  /** Describes the last outage and its time in a few words. */
  describe: () => string
  /** How many outages there were. */
  readonly count: number
}

/** A request without an answer still waits until its timeout, and requests that share its result wait as well. */
const UNANSWERED = TIMEOUT * 1000

const OUTAGES: Outage[] = [
  { fault: { on: 'token', status: 503 }, excuses: ['login', 'token'] },
  // After several requests for keys, the plugin asks only once a second.
  { fault: { on: 'jwks', status: 503 }, excuses: ['login', 'token'], lingers: 1000 },
  { fault: { on: 'metadata', status: 503 }, excuses: [] },
  { fault: { on: 'token', delay: 700 }, excuses: [] },
  { fault: { on: 'userinfo', status: 503 }, excuses: ['userinfo'] },
  { fault: { on: 'jwks', hang: true }, excuses: ['login', 'token'], lingers: UNANSWERED },
  { fault: { on: 'jwks', delay: 700 }, excuses: [] },
  { fault: { on: 'token', hang: true }, excuses: ['login', 'token'], lingers: UNANSWERED },
  { fault: { on: 'userinfo', hang: true }, excuses: ['userinfo'], lingers: UNANSWERED },
  { fault: { on: 'metadata', hang: true }, excuses: [] }
]

const DURATION = 2500 // milliseconds, long enough for keys to rotate

export function createOutages (provider: Child, betweenOutages: number): Outages {
  const periods: Period[] = []
  const wasBad = (isMeant: (period: Period) => boolean, from: number, to: number): boolean =>
    periods.some((period) => isMeant(period) && period.from <= to && period.to >= from)

  async function runOne ({ fault, excuses, lingers = 0 }: Outage): Promise<void> {
    const period = { fault, excuses, from: Date.now(), to: Infinity }
    periods.push(period)
    await provider.ask('startOutage', fault)
    await sleep(DURATION)
    await provider.ask('endOutage')
    period.to = Date.now() + lingers
  }

  return {
    wasBad: (need, from, to) => wasBad(({ excuses }) => excuses.includes(need), from, to),
    wasBadForAny: (from, to) => wasBad(({ excuses }) => excuses.length > 0, from, to),
    async run (until) {
      const calm = betweenOutages * 1000 - DURATION
      while (Date.now() + calm + DURATION < until) {
        await sleep(calm)
        await runOne(OUTAGES[periods.length % OUTAGES.length] as Outage)
      }
    },
    describe () {
      const { fault, from = 0 } = periods.at(-1) ?? {}
      return fault === undefined
        ? 'before any outage'
        : `${Date.now() - from} ms after the start of ${JSON.stringify(fault)}`
    },
    get count () {
      return periods.length
    }
  }
}
