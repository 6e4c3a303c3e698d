import { elapsed } from '../util/time.ts'

/** A clock that the test moves. */
export interface Clock {
  /** Moves the clock forward by a number of seconds, or back by a negative number. */
  advance (seconds: number): void
  /** Sets the clock to a date. It runs on from there. */
  set (date: Date | number | string): void
  /** Restores the real clock. */
  restore (): void
}

/** Makes `Date` in this process take the time from `now`, in milliseconds. Returns a function that restores it. */
export const replaceNow = (now: () => number): (() => void) => {
  const RealDate = globalThis.Date
  globalThis.Date = new Proxy(RealDate, {
    construct: (target, args, newTarget) => Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget),
    apply: () => new RealDate(now()).toString(),
    get: (target, key, receiver) => key === 'now' ? now : Reflect.get(target, key, receiver)
  })
  return () => { globalThis.Date = RealDate }
}

/**
 * Replaces `Date` in this process: for the application, its libraries and the provider. Timers are not affected.
 *
 * @example
 * const clock = startClock()
 * t.teardown(() => clock.restore())
 * clock.advance(3600)
 */
export const startClock = (): Clock => {
  const RealDate = globalThis.Date
  let offset = 0
  const moveTo = (next: number): void => {
    offset = next
    // Two moves in a row, back and forward, are otherwise seen as one.
    elapsed()
  }
  return {
    restore: replaceNow(() => RealDate.now() + offset),
    advance: (seconds) => moveTo(offset + seconds * 1000),
    set: (date) => moveTo(new RealDate(date).getTime() - RealDate.now())
  }
}
