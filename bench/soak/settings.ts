export interface Settings {
  /** Seconds of load before the first measurement, and of the measured load. */
  warmUp: number
  seconds: number
  /** Users that are active at the same time, and parallel streams of hostile and of anonymous requests. */
  users: number
  attackers: number
  anonymous: number
  /** The load ends early after this number of responses. */
  maxRequests: number
  /** Seconds from the start of one outage of the provider to the next. */
  betweenOutages: number
}

const MAX_SECONDS = 3600

/** `soak [seconds] [--quick]` */
export function settings (argv: string[]): Settings {
  const seconds = argv.includes('--quick') ? 15 : secondsFrom(argv[2])
  return {
    warmUp: Math.min(10, Math.ceil(seconds / 5)),
    seconds,
    users: 64,
    attackers: 3,
    anonymous: 2,
    maxRequests: 5_000_000,
    betweenOutages: Math.max(3.5, Math.min(8, seconds / 10))
  }
}

function secondsFrom (text = '120'): number {
  const seconds = Number(text)
  if (!(seconds >= 5 && seconds <= MAX_SECONDS)) {
    throw new Error(`the time must be 5 to ${MAX_SECONDS} seconds, not "${text}"`)
  }
  return seconds
}
