import { logCompleted, sessionDigest } from '../http/completed.ts'
import { check } from '../options/check.ts'
import { ALWAYS, markOf } from '../session/ended-sessions.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { Broker } from '../broker/broker.ts'
import type { Bearer } from '../guard/bearer.ts'
import type { Settings } from '../options/settings.ts'
import type { EndedSessions } from '../session/ended-sessions.ts'
import type { ReportEnd } from '../session/report-end.ts'
import type { SessionFilter, SessionRecord, SessionRecords } from '../session/session-records.ts'
import type { EntryName } from '../store/sealed-store.ts'
import type { LogoutContext } from '../../types/options.ts'

/**
 * Ends the sessions that match the filter and did not begin after `at` (in milliseconds since the epoch), in every
 * process. Returns those that were found in the store. Sessions in cookies end as well, but cannot be listed.
 * Throws FST_OIDC_OPTION when the filter does not say which sessions. Writes one line into the log for all of them.
 */
export type EndSessions = (
  filter: SessionFilter,
  reason: LogoutContext['reason'],
  log: FastifyBaseLogger,
  at?: number
) => Promise<SessionRecord[]>

export interface EndSessionsParts {
  settings: Pick<Settings, 'providers' | 'resolveProvider'>
  endedSessions: EndedSessions
  /** `undefined` when the sessions are in cookies. */
  records: SessionRecords | undefined
  reportEnd: ReportEnd
  broker: Broker | undefined
  bearer: Bearer | undefined
}

export function createEndSessions (parts: EndSessionsParts): EndSessions {
  const { settings, endedSessions, records, reportEnd, broker, bearer } = parts

  async function endUntil (filter: SessionFilter, at: number): Promise<void> {
    // A provider never uses a `sid` again: its session has ended, whatever the clocks say.
    const time = filter.sid === undefined ? at : ALWAYS
    for (const name of marksFor(filter, providersOf(filter))) await endedSessions.mark(name, time)
    // The grants of a user end with the user's sessions, but not with a single one.
    await broker?.endAll(filter, at)
  }

  async function endUnlisted (id: string, { sub, sid, provider }: SessionFilter): Promise<void> {
    check((sub ?? sid ?? provider) === undefined, 'sessions in cookies are found by "id" alone')
    await endedSessions.end(id)
  }

  /** The providers whose sessions are meant: a `sub` or `sid` names a user or session at one provider only. */
  function providersOf ({ provider }: SessionFilter): readonly string[] {
    if (provider !== undefined) return [provider]
    check(settings.resolveProvider === undefined, 'with "resolveProvider", the filter must name the "provider"')
    return [...settings.providers.keys()]
  }

  async function endFound (records: SessionRecords, filter: SessionFilter, at: number): Promise<SessionRecord[]> {
    const ended: SessionRecord[] = []
    for await (const record of records.list(filter)) {
      const isMatch = filter.sid !== undefined || filter.id !== undefined || record.loginAt <= at
      // If several calls end the session, only one of them reports it.
      if (isMatch && await endedSessions.end(record.session.id)) ended.push(record)
    }
    return ended
  }

  return async (filter, reason, log, at = Date.now()) => {
    // Access tokens that were verified before the logout are verified again.
    bearer?.forget()
    if (filter.id === undefined) await endUntil(filter, at)
    else if (records === undefined) await endUnlisted(filter.id, filter)
    const ended = records === undefined ? [] : await endFound(records, filter, at)
    await Promise.all(ended.map(async ({ session }) => await reportEnd(session, reason, null)))
    const id = ended.length === 1 ? ended[0]?.session.id : filter.id
    logCompleted(log, 'logout', {
      provider: filter.provider ?? ended[0]?.session.provider,
      ...(id !== undefined && { session: sessionDigest(id) }),
      reason,
      sessions: ended.length
    })
    return ended
  }
}

function marksFor ({ sub, sid }: SessionFilter, providers: readonly string[]): EntryName[] {
  if (sid !== undefined) return providers.map((provider) => markOf.sid(provider, sid, sub))
  return providers.map((provider) => sub === undefined ? markOf.provider(provider) : markOf.sub(provider, sub))
}
