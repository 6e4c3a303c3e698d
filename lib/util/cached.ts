import { findOidcError } from '../errors.ts'

export interface CacheTimes {
  /** How long a value is used without asking again, in milliseconds. */
  maxAge: number
  /** How long a value is still used when asking again fails, in milliseconds since it was loaded. */
  maxStale: number
  /** How long a failure is remembered, in milliseconds. */
  retryAfter: number
}

export interface Cached<T, Context = void> {
  /** The value, loaded when there is none or it is too old; however many wait, it is loaded once. */
  get: (context: Context) => Promise<T>
  /** The value when it is there and not too old. */
  fresh: () => T | undefined
  /** The value that was loaded last, however old. */
  last: () => T | undefined
  /** The value as it is now; whatever failed before. */
  reload: (context: Context) => Promise<T>
  /**
   * Another value than `seen`: one that was loaded since, or one that is loaded now if `mayLoad` says so,
   * else `seen` again; throws when loading failed last.
   */
  newerThan: (seen: T, mayLoad: () => boolean, context: Context) => Promise<T>
}

/** One value that is loaded when it is needed and survives outages of its source. */
export function createCached<T, Context = void> (
  load: (context: Context) => Promise<T>,
  times: CacheTimes
): Cached<T, Context> {
  let value: { content: T; loadedAt: number } | undefined
  let failure: { error: unknown; failedAt: number; wait: number } | undefined
  let loading: Promise<T> | undefined

  async function loadNow (context: Context): Promise<T> {
    try {
      const content = await load(context)
      value = { content, loadedAt: Date.now() }
      failure = undefined
      return content
    } catch (error) {
      const wait = Math.min((findOidcError(error)?.retryAfter ?? 0) * 1000, 60_000)
      failure = { error, failedAt: Date.now(), wait: Math.max(times.retryAfter, wait) }
      throw error
    }
  }

  function start (context: Context): Promise<T> {
    loading ??= loadNow(context).finally(() => { loading = undefined })
    return loading
  }

  async function loadOrStale (context: Context): Promise<T> {
    try {
      if (failure !== undefined && isWithin(failure.failedAt, failure.wait)) throw failure.error
      return await start(context)
    } catch (error) {
      if (value !== undefined && isWithin(value.loadedAt, times.maxStale)) return value.content
      throw error
    }
  }

  function fresh (): T | undefined {
    return value !== undefined && isWithin(value.loadedAt, times.maxAge) ? value.content : undefined
  }

  async function get (context: Context): Promise<T> {
    return fresh() ?? await loadOrStale(context)
  }

  async function newerThan (seen: T, mayLoad: () => boolean, context: Context): Promise<T> {
    if (value !== undefined && value.content !== seen) return value.content
    if (loading !== undefined || mayLoad()) return await start(context)
    // Whoever needs another value while none can be had is to hear of that, and not that theirs is wrong.
    if (failure !== undefined) throw failure.error
    return seen
  }

  async function reload (context: Context): Promise<T> {
    // What is being loaded may have been read before it changed.
    await loading?.catch(() => {})
    return await start(context)
  }

  return { get, fresh, last: () => value?.content, reload, newerThan }
}

// A clock that was set back must neither keep a failure nor a value for longer.
function isWithin (since: number, duration: number): boolean {
  const age = Date.now() - since
  return age >= 0 && age < duration
}
