import { readCookie } from '../http/cookies.ts'
import { sha256 } from '../util/crypto.ts'
import { createBoundedMap } from '../util/bounded-map.ts'
import type { FastifyBaseLogger } from 'fastify'

/** Logs that no key opens a session cookie, once for each cookie: browsers send it with every request. */
export type ReportUnreadable = (header: string | undefined, log: FastifyBaseLogger) => void

export function createReportUnreadable (cookieName: string, limit = 1000): ReportUnreadable {
  const reported = createBoundedMap<true>(limit)
  return (header, log) => {
    const hash = sha256(readCookie(header, cookieName) as string)
    if (reported.get(hash) !== undefined) return
    reported.set(hash, true)
    log.info(
      { cookie: cookieName },
      'no key opens the session cookie, and it stays: another application on this host may have set it, or ' +
      '"session.key", "baseUrl" or the prefix has changed. Two applications need different values of "session.cookieName"'
    )
  }
}
