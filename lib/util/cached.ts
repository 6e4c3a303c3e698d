import { findOidcError } from '../errors.ts'
import { atMost } from './at-most.ts'

export interface CacheTimes {
  /** How long a value is used before it is loaded again, in milliseconds. */
  maxAge: number
  /** How long a value is still used while loading fails, in milliseconds since it was loaded. */
  maxStale: number
  /** How long to wait after a failure before the next attempt, in milliseconds. */
  retryAfter: number
  /** Without it, who asks for a value that is too old waits until it is loaded again. */
  reload?: Reload
}

/** How a value that is known answers while it is loaded again. */
export interface Reload {
  /**
   * How long a value that is too old answers at once, in milliseconds. An older one answers at once only when loading
   * has failed within this time.
   */
  answersFor: number
  /** How long a caller waits for it otherwise, in seconds since the loading began. */
  patience: number
  late: () => Error
}

export interface Cached<T, Context = void> {
  /** The value. It is loaded if there is none or it is too old, once for all callers that wait. */
  get: (context: Context) => Promise<T>
  /** As `get`, but waits to the end when a value that is too old is loaded again. */
  latest: (context: Context) => Promise<T>
  /** The value, if there is one and it is not too old. */
  fresh: () => T | undefined
  /** The value that was loaded last, of any age. */
  last: () => T | undefined
  /** How many times loading has begun. */
  begun: () => number
  /** Loads the value now, also after a failure. */
  reload: (context: Context) => Promise<T>
  /**
   * A value other than `seen`, or `seen` again if it was loaded later than `since`, a result of `begun`. Else a value
   * that is loaded now, when the permits allow it. Without a permit, throws if loading failed last.
   */
  newerThan: (seen: T, since: number, permits: Permits, context: Context) => Promise<T>
}

interface Loaded<T> {
  content: T
  loadedAt: number
  /** Of the load: they are counted from 1. */
  number: number
}

interface Failure {
  error: unknown
  failedAt: number
  /** How long the source is left alone, in milliseconds. */
  wait: number
}

/** How often a value may be loaded. */
export interface Permits {
  /** Takes a permit, if there is one now. */
  take: () => boolean
  /** Waits for the next permit. `false`: the caller does not wait. Throws when it would take too long. */
  next: () => Promise<boolean>
  /** Waits for a load, for as long as the caller can. */
  waitFor: <T>(load: Promise<T>) => Promise<T>
}

/** The longest wait that a source can ask for with Retry-After, in milliseconds. */
const MAX_WAIT = 60_000

/** A value that is loaded when it is needed, and stays available while its source is not. */
export function createCached<T, Context = void> (
  load: (context: Context) => Promise<T>,
  times: CacheTimes
): Cached<T, Context> {
  let value: Loaded<T> | undefined
  let failure: Failure | undefined
  let loading: { done: Promise<T>, soon: Promise<T> } | undefined
  let begun = 0

  async function loadNow (context: Context): Promise<T> {
    const number = begun
    try {
      const content = await load(context)
      value = { content, loadedAt: Date.now(), number }
      failure = undefined
      return content
    } catch (error) {
      failure = { error, failedAt: Date.now(), wait: waitAfter(error) }
      throw error
    }
  }

  function waitAfter (error: unknown): number {
    const { retryAfter = 0, kind } = findOidcError(error) ?? {}
    // It may be that only this call does not end.
    return kind === 'late' ? 0 : Math.max(times.retryAfter, Math.min(retryAfter * 1000, MAX_WAIT))
  }

  /** `soon` is for callers that wait for a limited time. They share one limit, which begins with the loading. */
  function start (context: Context): { done: Promise<T>, soon: Promise<T> } {
    if (loading !== undefined) return loading
    begun += 1
    const done = loadNow(context).finally(() => { loading = undefined })
    const { reload } = times
    const soon = reload === undefined ? done : atMost(reload.patience, async () => await done, reload.late)
    // It may be that no caller waits.
    for (const promise of [done, soon]) promise.catch(() => {})
    loading = { done, soon }
    return loading
  }

  /** A failure after which the source is left alone for a while. */
  function recentFailure (): Failure | undefined {
    return failure !== undefined && isWithin(failure.failedAt, failure.wait) ? failure : undefined
  }

  function isBusy (): boolean {
    return findOidcError(recentFailure()?.error)?.kind === 'busy'
  }

  /** After a failure, the value that is known answers for a while. */
  async function orStale (loaded: () => Promise<T>): Promise<T> {
    try {
      const recent = recentFailure()
      if (recent !== undefined) throw recent.error
      return await loaded()
    } catch (error) {
      if (value !== undefined && failure !== undefined && isWithin(value.loadedAt, times.maxStale)) return value.content
      throw error
    }
  }

  function answersAtOnce (loadedAt: number, { answersFor }: Reload): boolean {
    if (isWithin(loadedAt, times.maxAge + answersFor)) return true
    return failure !== undefined && isWithin(failure.failedAt, answersFor) && isWithin(loadedAt, times.maxStale)
  }

  function fresh (): T | undefined {
    return value !== undefined && isWithin(value.loadedAt, times.maxAge) ? value.content : undefined
  }

  async function loaded (context: Context): Promise<T> {
    const isFirst = value === undefined && failure === undefined
    const { done, soon } = start(context)
    const { reload } = times
    if (value !== undefined && reload !== undefined && answersAtOnce(value.loadedAt, reload)) return value.content
    return await (isFirst ? done : soon)
  }

  async function newerThan (seen: T, since: number, permits: Permits, context: Context): Promise<T> {
    for (;;) {
      const { content, number } = value as Loaded<T>
      if (content !== seen || number > since) return content
      if (loading === undefined && (isBusy() || !permits.take())) {
        // The caller must learn that no other value is available, not that the one it has is wrong.
        if (failure !== undefined) throw failure.error
        if (!await permits.next()) return seen
      }
      await permits.waitFor(start(context).done)
    }
  }

  async function reload (context: Context): Promise<T> {
    // A load that already runs may have read the value before it changed.
    await loading?.done.catch(() => {})
    return await start(context).done
  }

  return {
    get: async (context) => fresh() ?? await orStale(async () => await loaded(context)),
    latest: async (context) => fresh() ?? await orStale(async () => await start(context).done),
    fresh,
    last: () => value?.content,
    begun: () => begun,
    reload,
    newerThan
  }
}

// A clock that is set back must not make a value or a failure last longer.
function isWithin (since: number, duration: number): boolean {
  const age = Date.now() - since
  return age >= 0 && age < duration
}
