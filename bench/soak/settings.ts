import { parseArgs } from 'node:util'

export interface Settings {
  /** The names of the stores to run with. `undefined`: all that can be used here. */
  stores: string[] | undefined
  /** Seconds of load before the first measurement, and of the measured load. */
  warmUp: number
  seconds: number
  /** The load ends early after this number of responses, all stores together. */
  maxRequests: number
  /** Seconds without a fault between two faults. */
  calm: number
}

const MAX_SECONDS = 6 * 3600

/** `soak [seconds] [--store name]... [--quick] [--requests number]`: seconds for each store, requests for all. */
export function readSettings (args: string[]): Settings {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      requests: { type: 'string' },
      store: { type: 'string', multiple: true }
    }
  })
  const { quick, requests, store } = values
  const fallback = requests === undefined ? 100 : MAX_SECONDS
  const seconds = quick ? 15 : wholeNumber('the time in seconds', positionals[0], fallback, 5, MAX_SECONDS)
  return {
    stores: store,
    warmUp: Math.min(10, Math.ceil(seconds / 5)),
    seconds,
    maxRequests: wholeNumber('the number of requests', requests, Infinity, 1, 1e9),
    calm: quick ? 1 : 2
  }
}

function wholeNumber (what: string, text: string | undefined, fallback: number, min: number, max: number): number {
  if (text === undefined) return fallback
  const value = Number(text)
  if (!(value >= min && value <= max)) throw new Error(`${what} must be ${min} to ${max}, not "${text}"`)
  return value
}
