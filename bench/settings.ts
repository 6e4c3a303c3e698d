import { parseArgs } from 'node:util'

export interface Settings {
  /** Sets of fresh server processes for the requests, and rounds with each set. */
  sets: number
  rounds: number
  /** In milliseconds: the first load of a new server, the load before each window, and the window. */
  warmUp: number
  settle: number
  window: number
  connections: number
  /**
   * How many different sessions (e) sends in turn, and how many different access tokens (p) and (q) send: so many that
   * each has left the plugin's cache before it is sent again. (t) repeats the first `crowd` sessions, more than the
   * cache holds (4096). (b) to (d) and (n) to (s) repeat the first `steadySessions`.
   */
  sessions: number
  tokens: number
  crowd: number
  steadySessions: number
  /** Logins on each side before the rounds of (f), and in each round. */
  loginWarmUp: number
  logins: number
  loginRounds: number
  loginConcurrency: number
  /** Rounds of (g). */
  startRounds: number
}

const full: Settings = {
  sets: 3,
  rounds: 8,
  warmUp: 2500,
  settle: 150,
  window: 500,
  connections: 32,
  sessions: 40_000,
  tokens: 30_000,
  crowd: 6000,
  steadySessions: 100,
  loginWarmUp: 3000,
  logins: 80,
  loginRounds: 30,
  loginConcurrency: 8,
  startRounds: 7
}

const quick: Settings = {
  ...full,
  sets: 1,
  rounds: 4,
  warmUp: 1000,
  window: 300,
  sessions: 20_000,
  tokens: 15_000,
  loginWarmUp: 800,
  logins: 50,
  loginRounds: 8,
  startRounds: 1
}

/** Only shows that everything runs. */
const smoke: Settings = {
  ...quick,
  rounds: 2,
  warmUp: 30,
  settle: 10,
  window: 30,
  connections: 2,
  sessions: 4,
  tokens: 4,
  crowd: 4,
  steadySessions: 1,
  loginWarmUp: 2,
  logins: 2,
  loginRounds: 2,
  loginConcurrency: 2
}

export interface Wanted {
  settings: Settings
  /** The letters of the rows. Without them, all. */
  rows: string[] | undefined
  /** The folder of another checkout. */
  compare: string | undefined
}

/** `--quick` or `--smoke`, `--rows c,d,i,j`, `--compare ../other`. */
export function wanted (args: string[]): Wanted {
  const { values } = parseArgs({
    args,
    options: {
      quick: { type: 'boolean' },
      smoke: { type: 'boolean' },
      rows: { type: 'string' },
      compare: { type: 'string' }
    }
  })
  const settings = values.smoke === true ? smoke : values.quick === true ? quick : full
  return { settings, rows: values.rows?.split(','), compare: values.compare }
}
