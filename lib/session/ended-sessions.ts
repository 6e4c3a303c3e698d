import { createBoundedMap } from '../util/bounded-map.ts'
import { now } from '../util/time.ts'
import type { Session } from './session.ts'
import type { SessionRecords } from './session-records.ts'
import type { EntryName, SealedStore } from '../store/sealed-store.ts'

/** Which sessions are over: by marks of when who was logged out, which outlive the sessions. */
export interface EndedSessions {
  /** Whether a session is over; `undefined` when that takes asking. */
  isEndedHere: (session: Session) => boolean | undefined
  /** Whether a session is over, as all processes know it. */
  isEnded: (session: Session) => Promise<boolean>
  /**
   * Whether somebody was logged out while they logged in: asked once the session is there, and so nothing
   * comes between.
   */
  isMarked: (session: Markable) => Promise<boolean>
  /** Ends the session of that id; whether this call did, and none before it. */
  end: (id: string) => Promise<boolean>
  /**
   * Ends what the mark names, as far as it began until `at`, in milliseconds since the epoch; an earlier `at`
   * takes nothing back.
   */
  mark: (mark: EntryName, at: number) => Promise<void>
}

/** What marks are about: a session, or what else somebody was given. */
export interface Markable {
  session: { id: string, provider: string, sid?: string }
  claims: { sub: string }
  /** In milliseconds since the epoch. */
  loginAt: number
}

/** Past this number the oldest marks of one process are forgotten. */
const MAX_MARKS = 100_000

export interface EndedSessionsTimes {
  /** How long a session lives at most, in seconds. */
  maxAge: number
  /** How long what the store said of a session is trusted, in seconds. */
  recheckAfter: number
}

/** For what is over whenever it began. */
export const ALWAYS = Number.MAX_SAFE_INTEGER

/** Providers by their name. */
export const markOf = {
  session: (id: string): EntryName => ['ended', 'session', id],
  /** With `sub`, only that person's. */
  sid: (provider: string, sid: string, sub?: string): EntryName => [
    'ended',
    'sid',
    provider,
    sid,
    ...(sub === undefined ? [] : [sub])
  ],
  sub: (provider: string, sub: string): EntryName => ['ended', 'sub', provider, sub],
  provider: (provider: string): EntryName => ['ended', 'provider', provider]
}

/** What knows of the sessions that other processes ended; times in seconds since the epoch. */
export interface SharedMarks {
  isOver: (session: Session) => Promise<boolean>
  isMarked: (session: Markable) => Promise<boolean>
  /** Whether it was not over before. */
  end: (id: string, expiresAt: number) => Promise<boolean>
  mark: (mark: EntryName, at: number, expiresAt: number) => Promise<unknown>
}

/** For sessions in cookies: what is marked is over. */
export function marksInStore (vault: SealedStore): SharedMarks {
  async function isMarked (session: Markable): Promise<boolean> {
    const times = await Promise.all(marksOf(session).map(vault.max))
    return times.some((at) => at >= session.loginAt)
  }

  return {
    isOver: isMarked,
    isMarked,
    end: async (id, expiresAt) => await vault.raise(markOf.session(id), ALWAYS, expiresAt),
    mark: vault.raise
  }
}

/** For sessions in the store: what is not there is over. */
export function sessionsInStore (vault: SealedStore, records: SessionRecords): SharedMarks {
  return {
    ...marksInStore(vault),
    isOver: async ({ session: { id } }) => !await records.has(id),
    end: records.remove
  }
}

export function createEndedSessions (
  { maxAge, recheckAfter }: EndedSessionsTimes,
  elsewhere: SharedMarks | undefined
): EndedSessions {
  const marks = createBoundedMap<number>(MAX_MARKS)
  const alive = createBoundedMap<true>(MAX_MARKS)
  const keys = new WeakMap<Markable, string[]>()

  function keysOf (session: Markable): string[] {
    const found = keys.get(session) ?? marksOf(session).map(keyOf)
    keys.set(session, found)
    return found
  }

  function isMarkedHere (session: Markable): boolean {
    return marks.size > 0 && keysOf(session).some((key) => (marks.get(key) ?? 0) >= session.loginAt)
  }

  // As long as a session that it is about could last.
  const markExpiry = (): number => now() + maxAge + 60

  function raise (mark: EntryName, at: number): boolean {
    const key = keyOf(mark)
    const before = marks.get(key) ?? 0
    marks.set(key, Math.max(before, at), markExpiry())
    return before < at
  }

  return {
    isEndedHere (session) {
      if (isMarkedHere(session)) return true
      return elsewhere === undefined || alive.get(session.session.id) !== undefined ? false : undefined
    },

    async isEnded (session) {
      const over = isMarkedHere(session) || await elsewhere?.isOver(session) === true
      if (!over && recheckAfter > 0) alive.set(session.session.id, true, now() + recheckAfter)
      return over
    },

    isMarked: async (session) => isMarkedHere(session) || await elsewhere?.isMarked(session) === true,

    // The store first: a logout that it does not know of has not happened.
    async end (id) {
      const first = await elsewhere?.end(id, markExpiry())
      const firstHere = raise(markOf.session(id), ALWAYS)
      return first ?? firstHere
    },

    async mark (mark, at) {
      await elsewhere?.mark(mark, at, markExpiry())
      raise(mark, at)
    }
  }
}

function marksOf ({ session: { id, provider, sid }, claims: { sub } }: Markable): EntryName[] {
  return [
    markOf.session(id), markOf.sub(provider, sub), markOf.provider(provider),
    ...(sid === undefined ? [] : [markOf.sid(provider, sid), markOf.sid(provider, sid, sub)])
  ]
}

function keyOf (mark: EntryName): string {
  return JSON.stringify(mark)
}
