export interface Settings {
  /** Seconds of load before the first measurement, and of the measured load. */
  warmUp: number
  seconds: number
  /** People that are active at the same time, and parallel streams of hostile and of anonymous requests. */
  people: number
  attackers: number
  passersBy: number
  /** Answers after which the load ends early. */
  mostRequests: number
  /** Seconds from the beginning of one trouble of the provider to the next. */
  betweenTroubles: number
}

const MOST_SECONDS = 3600

/** `soak [seconds] [--quick]` */
export function settings (argv: string[]): Settings {
  const seconds = argv.includes('--quick') ? 15 : secondsFrom(argv[2])
  return {
    warmUp: Math.min(10, Math.ceil(seconds / 5)),
    seconds,
    people: 64,
    attackers: 3,
    passersBy: 2,
    mostRequests: 5_000_000,
    betweenTroubles: Math.max(3.5, Math.min(8, seconds / 10))
  }
}

function secondsFrom (text = '120'): number {
  const seconds = Number(text)
  if (!(seconds >= 5 && seconds <= MOST_SECONDS)) {
    throw new Error(`how long? 5 to ${MOST_SECONDS} seconds, not "${text}"`)
  }
  return seconds
}
