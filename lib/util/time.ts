/** Seconds since the epoch, the unit of times in tokens (RFC 7519, section 2: NumericDate) and in sessions. */
export function now (): number {
  return Math.floor(Date.now() / 1000)
}

/** How far the clock of another process may be ahead, in seconds. It counts for a begin, never for an expiry. */
export const CLOCK_TOLERANCE = 60

/** Whether a time has come, in seconds since the epoch, as far as the clocks of two processes may differ. */
export function hasBegun (time: number): boolean {
  return time <= now() + CLOCK_TOLERANCE
}

/** For the log: a time that lies too far ahead, and that of this process. `time` in seconds since the epoch. */
export function describeAhead (time: number): string {
  const [ahead, own] = [time, now()].map((seconds) => new Date(seconds * 1000).toISOString())
  return `${ahead}, and the clock of this process says ${own}: the clocks of two processes differ, or one was set back`
}

/** A smaller move of the clock between two looks is the passing of time, in milliseconds: no other clock is asked. */
const STEP = 1000
/** How much the clock may lag behind, in milliseconds, before it counts as set back. */
const MAX_LAG = 60_000

let passed = 0
let lastDate = Date.now()
/** The last look at the clock of the process, which nothing sets: its time, and what had passed then. */
let last = { uptime: performance.now(), passed }

/**
 * How much time has passed in this process, in milliseconds since some moment. It never goes back, so it tells how long
 * something in memory has lasted. Times that are compared with other machines come from `now`.
 *
 * A clock that is set back does not make it smaller, and it runs on. What a clock is set forward counts as passed: what
 * is allowed for a while then ends too early, not too late. It does not stay ahead of the clock, as a clock would that
 * must not go back: it has no date.
 */
export function elapsed (): number {
  const date = Date.now()
  const moved = date - lastDate
  lastDate = date
  if (moved >= 0 && moved < STEP) passed += moved
  else passAfter(moved)
  return passed
}

function passAfter (moved: number): void {
  const uptime = performance.now()
  const missing = Math.round(uptime - last.uptime) - (passed - last.passed)
  const isSetBack = moved < 0 || missing - moved > MAX_LAG
  passed += isSetBack ? Math.max(0, missing) : moved
  last = { uptime, passed }
}
