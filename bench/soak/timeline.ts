import type { Fault, Need } from './faults.ts'

/** Which faults there were, and when. */
export interface Timeline {
  /** Notes that a fault begins. The returned function notes that it and its effects are over. */
  begin: (fault: Noted) => () => void
  /** Whether there was a fault that excuses one of these, at any time since then. */
  excuses: (since: number, ...needs: Need[]) => boolean
  /** Describes the last fault and its time in a few words. */
  describe: () => string
}

/** What the timeline knows of a fault. */
type Noted = Pick<Fault, 'name' | 'excuses' | 'lingers'>

interface Period {
  fault: Noted
  /** In milliseconds since the epoch. */
  from: number
  to: number
}

const MAX_PERIODS = 200

export function createTimeline (): Timeline {
  const periods: Period[] = []

  return {
    begin (fault) {
      const period = { fault, from: Date.now(), to: Infinity }
      periods.push(period)
      if (periods.length > MAX_PERIODS) periods.shift()
      return () => { period.to = Date.now() + (fault.lingers ?? 0) }
    },
    excuses: (since, ...needs) =>
      periods.some(({ fault, to }) => to >= since && needs.some((need) => fault.excuses.includes(need))),
    describe () {
      const last = periods.at(-1)
      if (last === undefined) return 'before any fault'
      const state = last.to === Infinity ? 'in' : 'after'
      return `${Date.now() - last.from} ms after the begin, ${state} "${last.fault.name}"`
    }
  }
}
