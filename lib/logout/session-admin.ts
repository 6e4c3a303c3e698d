import { check, checkFilter } from '../options/check.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { SessionFilter, SessionRecords } from '../session/session-records.ts'
import type { EndSessions } from './end-sessions.ts'
import type { ListedSession, Oidc } from '../../types/fastify.ts'

/** `app.oidc.sessions` */
export function createSessionAdmin (
  { endSessions, records, log }: {
    endSessions: EndSessions
    records: SessionRecords | undefined
    log: FastifyBaseLogger
  }
): Oidc['sessions'] {
  return {
    async list (filter) {
      check(records !== undefined, 'only sessions in the store can be listed: set "store" and "session.store"')
      const found: ListedSession[] = []
      for await (const { session, sub } of records.list(parseFilter(filter))) found.push({ ...session, sub })
      return found
    },

    async revoke (filter) {
      const ended = await endSessions(parseFilter(filter), 'revoked', log)
      return ended.length
    }
  }
}

/** An `undefined` value must not mean all sessions: throws FST_OIDC_OPTION. */
function parseFilter (filter: SessionFilter): SessionFilter {
  checkFilter(filter, ['id', 'sid', 'sub', 'provider'])
  check(Object.keys(filter).length > 0, 'sessions are found by "sub", "sid", "id" or "provider"')
  return filter
}
