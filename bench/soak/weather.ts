import { setTimeout as sleep } from 'node:timers/promises'
import { TIMEOUT } from './application.ts'
import type { Child } from '../child.ts'

/** What goes wrong at the provider for a moment. */
interface Trouble {
  fault: { on: 'metadata' | 'jwks' | 'token' | 'userinfo', status?: number, delay?: number, hang?: boolean }
  /** What an application cannot do meanwhile; nothing, where it has what it needs or only has to wait. */
  excuses: Need[]
  /** Milliseconds that this may go on after its end. */
  lingers?: number
}

export type Need = 'login' | 'token' | 'userinfo'

interface Period extends Trouble {
  from: number
  to: number
}

export interface Weather {
  /** Whether the provider could not be used for this at some moment between the two (milliseconds since the epoch). */
  wasBad: (need: Need, from: number, to: number) => boolean
  /** Whether the provider could not be used for anything at all. */
  wasBadForAny: (from: number, to: number) => boolean
  /** One trouble after another, until the time is over. */
  run: (until: number) => Promise<void>
  /** What the last trouble was, and when, in a few words. */
  describe: () => string
  /** How many troubles there were. */
  readonly troubles: number
}

/** Whoever was left without an answer still waits for one, and others with them. */
const UNANSWERED = TIMEOUT * 1000

const TROUBLES: Trouble[] = [
  { fault: { on: 'token', status: 503 }, excuses: ['login', 'token'] },
  // The plugin asks for keys once a second when it has asked often.
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

const LASTS = 2500 // milliseconds: keys rotate meanwhile

export function createWeather (provider: Child, betweenTroubles: number): Weather {
  const periods: Period[] = []
  const wasBad = (isMeant: (period: Period) => boolean, from: number, to: number): boolean =>
    periods.some((period) => isMeant(period) && period.from <= to && period.to >= from)

  async function have ({ fault, excuses, lingers = 0 }: Trouble): Promise<void> {
    const period = { fault, excuses, from: Date.now(), to: Infinity }
    periods.push(period)
    await provider.ask('trouble', fault)
    await sleep(LASTS)
    await provider.ask('calm')
    period.to = Date.now() + lingers
  }

  return {
    wasBad: (need, from, to) => wasBad(({ excuses }) => excuses.includes(need), from, to),
    wasBadForAny: (from, to) => wasBad(({ excuses }) => excuses.length > 0, from, to),
    async run (until) {
      const calm = betweenTroubles * 1000 - LASTS
      while (Date.now() + calm + LASTS < until) {
        await sleep(calm)
        await have(TROUBLES[periods.length % TROUBLES.length] as Trouble)
      }
    },
    describe () {
      const { fault, from = 0 } = periods.at(-1) ?? {}
      return fault === undefined
        ? 'before any trouble'
        : `${Date.now() - from} ms after the begin of ${JSON.stringify(fault)}`
    },
    get troubles () {
      return periods.length
    }
  }
}
