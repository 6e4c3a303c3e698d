import { createBoundedMap } from '../util/bounded-map.ts'
import { now } from '../util/time.ts'
import type { EntryName, SealedStore } from '../store/sealed-store.ts'
import type { SessionRecords } from './session-records.ts'
import type { Session } from './session.ts'

/**
 * Which sessions have ended. A logout writes a mark: a name (session id, sid, sub or provider) and a time.
 * A session that began before a matching mark has ended. Marks last longer than the sessions they end.
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
    mark: store.raise
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
  const marks = createBoundedMap<number>(MAX_MARKS)
  const alive = createBoundedMap<true>(MAX_MARKS)
  const keys = new WeakMap<Markable, string[]>()

  function keysOf (session: Markable): string[] {
    const known = keys.get(session) ?? marksOf(session).map(keyOf)
    keys.set(session, known)
    return known
  }

  function isMarkedHere (session: Markable): boolean {
    return marks.size > 0 && keysOf(session).some((key) => (marks.get(key) ?? 0) >= session.loginAt)
  }

  // A mark lasts longer than any session that it matches.
  const markExpiry = (): number => now() + maxAge + 60

  /** Returns `true` when the mark was lower before. */
  function raise (mark: EntryName, at: number): boolean {
    const key = keyOf(mark)
    const before = marks.get(key) ?? 0
    marks.set(key, Math.max(before, at), markExpiry())
    return before < at
  }

  return {
    isEndedHere (session) {
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
    }
  }
}

function keyOf (mark: EntryName): string {
  return JSON.stringify(mark)
}
