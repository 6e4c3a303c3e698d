import { logCompleted, sessionDigest } from '../http/completed.ts'
import { check } from '../options/check.ts'
import { ALWAYS, isEndedBy, markOf } from '../session/ended-sessions.ts'
import { fewAtATime } from '../util/few-at-a-time.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { Broker } from '../broker/broker.ts'
import type { Bearer } from '../guard/bearer.ts'
import type { Settings } from '../options/settings.ts'
import type { EndedSessions } from '../session/ended-sessions.ts'
import type { ReportEnd } from '../session/report-end.ts'
import type { SessionFilter, SessionRecords } from '../session/session-records.ts'
import type { EntryName } from '../store/sealed-store.ts'
import type { OidcSession } from '../../types/claims.ts'
import type { LogoutContext } from '../../types/options.ts'

/**
 * Ends the sessions that match the filter, in every process: all that have begun by now, or those that did not begin
 * after `until` (in milliseconds since the epoch). Returns those that were found in the store. Sessions in cookies end
 * as well, but cannot be listed.
 * Throws FST_OIDC_OPTION when the filter does not say which sessions. Writes one line into the log for all of them.
 */
export type EndSessions = (
  filter: SessionFilter,
  reason: LogoutContext['reason'],
  log: FastifyBaseLogger,
  until?: number
) => Promise<EndedSession[]>

/** What is left of a session that has ended. There may be very many. */
export interface EndedSession {
  session: OidcSession
  refreshToken: string | undefined
}

/** How many sessions are removed from the store at a time, and how many calls of `onLogout` run at a time. */
const REMOVALS = 8
const HOOKS = 8
/** After how many sessions the log says how far it is. */
const PROGRESS = 1000

export interface EndSessionsParts {
  settings: Pick<Settings, 'providers' | 'resolveProvider'>
  endedSessions: EndedSessions
  /** `undefined` when the sessions are in cookies. */
  records: SessionRecords | undefined
  reportEnd: ReportEnd
  broker: Broker | undefined
  bearer: Bearer | undefined
}

/** How far the time of a logout may be ahead of the clock, in milliseconds, because of others at the same moment. */
const CLOCK_STEP = 1000

export function createEndSessions (parts: EndSessionsParts): EndSessions {
  const { settings, endedSessions, records, reportEnd, broker, bearer } = parts

  /** When the sessions must have begun. */
  async function timeOf ({ id, sid }: SessionFilter, until: number): Promise<number> {
    // A provider never uses a `sid` again: its session has ended, whatever the clocks say.
    if ((id ?? sid) !== undefined) return ALWAYS
    const time = await endedSessions.logoutTime()
    // After the clock was set back, the times of logins do not tell which of them were before `until`.
    return time > Date.now() + CLOCK_STEP ? time : Math.min(time, until)
  }

  async function endUntil (filter: SessionFilter, at: number): Promise<void> {
    for (const name of marksFor(filter, providersOf(filter))) await endedSessions.mark(name, at)
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

  /** Ends what the store has, and reports it. */
  async function endListed (
    records: SessionRecords,
    filter: SessionFilter,
    reason: LogoutContext['reason'],
    log: FastifyBaseLogger,
    at: number
  ): Promise<EndedSession[]> {
    const ended: EndedSession[] = []
    try {
      await fewAtATime(records.list(filter), REMOVALS, async (record) => {
        const { session, tokens } = record
        // If several calls end the session, only one of them reports it.
        if (!isEndedBy(at, record) || !(await endedSessions.end(session.id))) return
        ended.push({ session, refreshToken: tokens.refresh_token })
        if (ended.length % PROGRESS === 0) log.info({ sessions: ended.length }, 'sessions are being ended')
      })
    } finally {
      // Also if the store fails in between, because the sessions that have ended cannot be found again.
      await fewAtATime(ended.values(), HOOKS, async ({ session }) => await reportEnd(session, reason, null))
    }
    return ended
  }

  return async (filter, reason, log, until = Infinity) => {
    // Access tokens that were verified before the logout are verified again.
    bearer?.forget(filter.sub)
    const at = await timeOf(filter, until)
    if (filter.id === undefined) await endUntil(filter, at)
    else if (records === undefined) await endUnlisted(filter.id, filter)
    const ended = records === undefined ? [] : await endListed(records, filter, reason, log, at)
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
