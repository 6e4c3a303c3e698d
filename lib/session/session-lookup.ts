import { CLOCK_TOLERANCE, hasBegun, now } from '../util/time.ts'
import type { FastifyRequest } from 'fastify'
import type { SessionSettings } from '../options/session.ts'
import type { Provider } from '../provider/provider.ts'
import type { Providers } from '../provider/providers.ts'
import type { EndedSessions } from './ended-sessions.ts'
import type { OpenedSession, SessionCookies } from './session-cookies.ts'
import type { SessionRecords } from './session-records.ts'
import type { Session } from './session.ts'

/** What the session cookie of a request means. */
export type Lookup = Resolved | {
  /** The tenant or the store must be asked first. */
  status: 'unresolved'
  opened: OpenedSession
}

export type Resolved =
  /** The request has no session cookie. */
  { status: 'none' } |
  /** No key opens the cookie. It stays: another application on this host may have set it. */
  { status: 'unreadable' } |
  /** The session has expired, or another provider issued it. The cookie is removed. */
  { status: 'invalid' } |
  /** A logout has ended the session. The cookie stays: another tab may have logged in since, under the same name. */
  { status: 'ended' } |
  /** The clock of another process is ahead, or that of this one was set back. The cookie stays. */
  { status: 'early', session: Session } |
  { status: 'live', session: Session, provider: Provider, rotated: boolean }

export interface SessionLookup {
  /** Looks at the cookie, without asking the tenant or the store. */
  lookUp: (opened: OpenedSession | null | undefined) => Lookup
  /** Asks the tenant and the store. */
  resolve: (request: FastifyRequest, opened: OpenedSession) => Promise<Resolved>
  /** Also for a session from the future: it is not over. */
  isUnexpired: (session: Session) => boolean
  /** Why a request with this cookie is not logged in, for the log. */
  explain: (opened: OpenedSession | null | undefined) => string
}

/** The request has no session cookie. */
export const NO_SESSION: Resolved = { status: 'none' }
const INVALID: Resolved = { status: 'invalid' }
const UNREADABLE: Resolved = { status: 'unreadable' }
const ENDED: Resolved = { status: 'ended' }

export interface SessionLookupParts {
  cookies: SessionCookies
  providers: Providers
  endedSessions: EndedSessions
  /** `undefined` when the sessions are in cookies. */
  records: SessionRecords | undefined
}

/** What is known about a session. `undefined`: the tenant or the store must be asked. */
interface Known {
  providerOf: Providers['known']
  isEnded: EndedSessions['isEndedHere']
}

export function createSessionLookup (
  { maxAge, idleTimeout }: SessionSettings,
  { providers, endedSessions, records }: SessionLookupParts
): SessionLookup {
  const knownHere: Known = { providerOf: providers.known, isEnded: endedSessions.isEndedHere }

  function isUnexpired ({ version, session, seenAt }: Session): boolean {
    const end = Math.min(session.expiresAt, session.loginTime + maxAge, seenAt + idleTimeout)
    return version === 2 && now() < end
  }

  function lookUp (opened: OpenedSession | null | undefined, { providerOf, isEnded: isEndedOf } = knownHere): Lookup {
    if (opened === undefined) return NO_SESSION
    if (opened === null) return UNREADABLE
    if (!isUnexpired(opened.session)) return INVALID
    const { session, rotated } = opened
    if (!hasBegun(session.seenAt)) return { status: 'early', session }
    const provider = providerOf(session.session.provider)
    const isEnded = isEndedOf(session)
    if (provider === undefined || isEnded === undefined) return { status: 'unresolved', opened }
    if (isEnded) return ENDED
    // The provider may have been removed, or replaced by another one with the same name.
    return provider?.id === session.issuedBy ? { status: 'live', session, provider, rotated } : INVALID
  }

  function explain (opened: OpenedSession | null | undefined): string {
    if (opened === undefined) return 'the session cookie did not come back: the browser or a proxy drops it'
    if (opened === null) return 'no key opens the session cookie: all processes need the same "session.key" and "baseUrl"'
    const { session: { provider }, seenAt } = opened.session
    const ahead = seenAt - now()
    if (ahead > CLOCK_TOLERANCE) return `the session is from the future, by ${ahead} s: the clocks of two processes differ`
    return isUnexpired(opened.session)
      ? `a session of the provider ${provider} does not count here, or a logout has ended it`
      : `the session expired at once, it is ${-ahead} s old: the clocks of two processes differ, or "session.maxAge" ` +
        'or "session.idleTimeout" is too short'
  }

  return {
    lookUp: (opened) => lookUp(opened),
    isUnexpired,
    explain,

    async resolve (request, opened) {
      const { session, rotated } = opened
      const [provider, isEnded] = await Promise.all([
        providers.known(session.session.provider) ?? providers.find(request, session.session.provider),
        endedSessions.isEndedHere(session) ?? endedSessions.isEnded(session),
        rotated ? records?.find(session.session.id) : undefined // seals the record with the newest key as well
      ])
      return lookUp(opened, { providerOf: () => provider, isEnded: () => isEnded }) as Resolved
    }
  }
}
