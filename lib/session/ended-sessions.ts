import { createBoundedMap } from '../util/bounded-map.ts'
import { CLOCK_TOLERANCE, now } from '../util/time.ts'
import type { EntryName, SealedStore } from '../store/sealed-store.ts'
import type { SessionRecords } from './session-records.ts'
import type { Session } from './session.ts'

/**
 * Which sessions have ended. A logout writes a mark: a name (session id, sid, sub or provider) and a time.
 * A session that began before a matching mark has ended. Marks last longer than the sessions they end.
 *
 * The clock may be set back, and those of two processes differ. So logins and logouts take their times here: a logout
 * is not before any login so far, and a login is after each logout so far.
 */
export interface EndedSessions {
  /** Whether a session has ended, as far as this process knows; `undefined` when the store must be asked. */
  isEndedHere: (session: Session) => boolean | undefined
  /** Whether a session has ended in any process. */
  isEnded: (session: Session) => Promise<boolean>
  /** Whether a logout matches a session that has just been created. The logout may have come during the login. */
  isMarked: (session: Markable) => Promise<boolean>
  /** Ends one session. Returns `true` for the first caller. */
  end: (id: string) => Promise<boolean>
  /** Ends the sessions that match the mark and did not begin after `at`, in milliseconds since the epoch. */
  mark: (mark: EntryName, at: number) => Promise<void>
  /** The time of a login that begins now, in milliseconds since the epoch. Ask before the provider is asked. */
  loginTime: () => Promise<number>
  /** The same, as far as this process knows. */
  loginTimeHere: () => number
  /** The time of a logout that comes now, in milliseconds since the epoch. */
  logoutTime: () => Promise<number>
}

/** A session or a grant of the broker: marks are compared with it. */
export interface Markable {
  session: { id: string, provider: string, sid?: string }
  claims: { sub: string }
  /** In milliseconds since the epoch. */
  loginAt: number
}

/** How many marks one process remembers. It forgets the oldest first. */
const MAX_MARKS = 100_000

export interface EndedSessionsTimes {
  /** The longest life of a session, in seconds. */
  maxAge: number
  /** How long this process does not ask the store again whether a session has ended, in seconds. */
  recheckAfter: number
}

/** The time of a mark that matches sessions whatever their time. */
export const ALWAYS = Number.MAX_SAFE_INTEGER
/** How much longer a mark lasts after the clock was ahead, in seconds. Without a limit, marks would fill the store. */
const MAX_AHEAD = 30 * 86_400
/** The name of the highest time of a logout. */
const NEWEST: EntryName = ['ended', 'newest']

/** The names of marks. `provider` is the name of a provider. */
export const markOf = {
  session: (id: string): EntryName => ['ended', 'session', id],
  /** With `sub`, only the session of that user. */
  sid: (provider: string, sid: string, sub?: string): EntryName =>
    ['ended', 'sid', provider, sid, ...(sub === undefined ? [] : [sub])],
  sub: (provider: string, sub: string): EntryName => ['ended', 'sub', provider, sub],
  provider: (provider: string): EntryName => ['ended', 'provider', provider]
}

function marksOf ({ session: { id, provider, sid }, claims: { sub } }: Markable): EntryName[] {
  return [
    markOf.session(id),
    markOf.sub(provider, sub),
    markOf.provider(provider),
    ...(sid === undefined ? [] : [markOf.sid(provider, sid), markOf.sid(provider, sid, sub)])
  ]
}

/** What the processes share about ended sessions. `expiresAt` is in seconds since the epoch. */
export interface SharedMarks {
  isEnded: (session: Session) => Promise<boolean>
  isMarked: (session: Markable) => Promise<boolean>
  /** Returns `true` for the first caller. */
  end: (id: string, expiresAt: number) => Promise<boolean>
  mark: (mark: EntryName, at: number, expiresAt: number) => Promise<unknown>
  /** The time of a mark, or 0. */
  timeOf: (mark: EntryName) => Promise<number>
}

/** For sessions in cookies: a session that matches a mark has ended. */
export function marksInStore (store: SealedStore): SharedMarks {
  async function isMarked (session: Markable): Promise<boolean> {
    const times = await Promise.all(marksOf(session).map(store.max))
    return times.some((at) => at >= session.loginAt)
  }

  return {
    isEnded: isMarked,
    isMarked,
    end: async (id, expiresAt) => await store.raise(markOf.session(id), ALWAYS, expiresAt),
    mark: store.raise,
    timeOf: store.max
  }
}

/** For sessions in the store: a session without a record has ended. */
export function sessionsInStore (store: SealedStore, records: SessionRecords): SharedMarks {
  return {
    ...marksInStore(store),
    isEnded: async ({ session: { id } }) => !(await records.has(id)),
    end: records.remove
  }
}

export function createEndedSessions (
  { maxAge, recheckAfter }: EndedSessionsTimes,
  shared: SharedMarks | undefined
): EndedSessions {
  // No clock makes this process forget a mark.
  const marks = createBoundedMap<{ at: number, expiresAt: number }>(MAX_MARKS)
  const alive = createBoundedMap<true>(MAX_MARKS)
  const keys = new WeakMap<Markable, string[]>()
  // The highest times so far, in milliseconds since the epoch.
  let newestLogin = 0
  let newestLogout = 0
  /** When the newest session began by the clock of its process, in seconds since the epoch. */
  let newestBegin = 0

  function keysOf (session: Markable): string[] {
    const known = keys.get(session) ?? marksOf(session).map(keyOf)
    keys.set(session, known)
    return known
  }

  function isMarkedHere (session: Markable): boolean {
    return marks.size > 0 && keysOf(session).some((key) => timeOf(key) >= session.loginAt)
  }

  function timeOf (key: string): number {
    const mark = marks.get(key)
    return mark !== undefined && mark.expiresAt > now() ? mark.at : 0
  }

  // A mark lasts longer than any session that it matches, also than those that began before the clock was set back.
  function markExpiry (): number {
    const time = now()
    return Math.min(Math.max(time, newestBegin), time + MAX_AHEAD) + maxAge + CLOCK_TOLERANCE
  }

  /** Returns `true` when the mark was lower before. */
  function raise (mark: EntryName, at: number): boolean {
    const key = keyOf(mark)
    const before = timeOf(key)
    marks.set(key, { at: Math.max(before, at), expiresAt: markExpiry() })
    return before < at
  }

  // Only logouts push the time of a login ahead: other processes could not end a session from the future.
  function loginTimeHere (): number {
    const time = Math.max(Date.now(), newestLogout + 1)
    newestLogin = Math.max(newestLogin, time)
    newestBegin = Math.max(newestBegin, now())
    return time
  }

  return {
    isEndedHere (session) {
      // Another process may have begun it.
      newestLogin = Math.max(newestLogin, session.loginAt)
      newestBegin = Math.max(newestBegin, session.session.loginTime)
      if (isMarkedHere(session)) return true
      return shared === undefined || alive.get(session.session.id) !== undefined ? false : undefined
    },

    async isEnded (session) {
      const isEnded = isMarkedHere(session) || (await shared?.isEnded(session)) === true
      if (!isEnded && recheckAfter > 0) alive.set(session.session.id, true, now() + recheckAfter)
      return isEnded
    },

    isMarked: async (session) => isMarkedHere(session) || (await shared?.isMarked(session)) === true,

    // The store first: when it cannot be written, the logout has failed.
    async end (id) {
      const isFirst = await shared?.end(id, markExpiry())
      const isFirstHere = raise(markOf.session(id), ALWAYS)
      return isFirst ?? isFirstHere
    },

    async mark (mark, at) {
      await shared?.mark(mark, at, markExpiry())
      raise(mark, at)
    },

    loginTimeHere,

    async loginTime () {
      newestLogout = Math.max(newestLogout, await shared?.timeOf(NEWEST) ?? 0)
      return loginTimeHere()
    },

    async logoutTime () {
      const newest = Math.max(newestLogout, await shared?.timeOf(NEWEST) ?? 0)
      const time = Math.max(Date.now(), newestLogin, newest + 1)
      // Before the marks: a login that finds none of them is then after this logout, not before it.
      await shared?.mark(NEWEST, time, markExpiry())
      newestLogout = Math.max(newestLogout, time)
      return time
    }
  }
}

/**
 * Whether a logout at this time ends what is in the store and began at `loginAt`. A begin in the future is from a
 * process whose clock is ahead, or from before the clock was set back.
 */
export function isEndedBy (at: number, { loginAt }: { loginAt: number }): boolean {
  return loginAt <= at || loginAt > Date.now()
}

function keyOf (mark: EntryName): string {
  return JSON.stringify(mark)
}
