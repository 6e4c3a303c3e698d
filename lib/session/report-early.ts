import { createBoundedMap } from '../util/bounded-map.ts'
import { describeAhead } from '../util/time.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { Session } from './session.ts'

/** Warns of a session from the future, once for each session: browsers send it with every request. */
export type ReportEarly = (session: Session, log: FastifyBaseLogger) => void

export function createReportEarly (limit = 1000): ReportEarly {
  const reported = createBoundedMap<true>(limit)
  return ({ session: { id }, seenAt }, log) => {
    if (reported.get(id) !== undefined) return
    reported.set(id, true)
    const detail = `it is from ${describeAhead(seenAt)}`
    log.warn({ detail }, 'a session from the future does not count, and its cookie stays')
  }
}
