/** A clock that tests move. */
export interface Clock {
  /** Moves on (or back, with a negative number) by so many seconds. */
  advance (seconds: number): void
  /** Goes to a date, and runs on from there. */
  set (date: Date | number | string): void
  /** Gives the real time back. */
  restore (): void
}

/**
 * Takes over `Date` in this process, for the application, its libraries and the provider alike. Timers stay real.
 *
 * @example
 * const clock = startClock()
 * t.teardown(() => clock.restore())
 * clock.advance(3600)
 */
export const startClock = (): Clock => {
  const RealDate = globalThis.Date
  let offset = 0
  const now = (): number => RealDate.now() + offset
  const moved = new Proxy(RealDate, {
    construct: (target, args, newTarget) => Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget),
    apply: () => new RealDate(now()).toString(),
    get: (target, key, receiver) => key === 'now' ? now : Reflect.get(target, key, receiver)
  })
  globalThis.Date = moved
  return {
    advance: (seconds) => { offset += seconds * 1000 },
    set: (date) => { offset = new RealDate(date).getTime() - RealDate.now() },
    restore: () => { globalThis.Date = RealDate }
  }
}
