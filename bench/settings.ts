export interface Settings {
  /** Sets of fresh server processes for (a) to (e), and rounds with each set. */
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

export function settings (argv: string[]): Settings {
  return argv.includes('--quick') ? quick : full
}
