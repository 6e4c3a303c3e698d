import { findOidcError } from '../errors.ts'

export interface CacheTimes {
  /** How long a value is used before it is loaded again, in milliseconds. */
  maxAge: number
  /** How long a value is still used while loading fails, in milliseconds since it was loaded. */
  maxStale: number
  /** How long to wait after a failure before the next attempt, in milliseconds. */
  retryAfter: number
}

export interface Cached<T, Context = void> {
  /** The value. It is loaded if there is none or it is too old, once for all callers that wait. */
  get: (context: Context) => Promise<T>
  /** The value, if there is one and it is not too old. */
  fresh: () => T | undefined
  /** The value that was loaded last, of any age. */
  last: () => T | undefined
  /** Loads the value now, also after a failure. */
  reload: (context: Context) => Promise<T>
  /**
   * A value other than `seen`: one that was loaded in the meantime, or one that is loaded now if `mayLoad` allows
   * it. Else `seen` again. Throws if loading failed last.
   */
  newerThan: (seen: T, mayLoad: () => boolean, context: Context) => Promise<T>
}

/** The longest wait that a source can ask for with Retry-After, in milliseconds. */
const MAX_WAIT = 60_000

/** A value that is loaded when it is needed, and stays available while its source is not. */
export function createCached<T, Context = void> (
  load: (context: Context) => Promise<T>,
  times: CacheTimes
): Cached<T, Context> {
  let value: { content: T, loadedAt: number } | undefined
  let failure: { error: unknown, failedAt: number, wait: number } | undefined
  let loading: Promise<T> | undefined

  async function loadNow (context: Context): Promise<T> {
    try {
      const content = await load(context)
      value = { content, loadedAt: Date.now() }
      failure = undefined
      return content
    } catch (error) {
      const requested = (findOidcError(error)?.retryAfter ?? 0) * 1000
      const wait = Math.max(times.retryAfter, Math.min(requested, MAX_WAIT))
      failure = { error, failedAt: Date.now(), wait }
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
    // The caller must learn that no other value is available, not that the one it has is wrong.
    if (failure !== undefined) throw failure.error
    return seen
  }

  async function reload (context: Context): Promise<T> {
    // A load that already runs may have read the value before it changed.
    await loading?.catch(() => {})
    return await start(context)
  }

  return { get, fresh, last: () => value?.content, reload, newerThan }
}

// A clock that is set back must not make a value or a failure last longer.
function isWithin (since: number, duration: number): boolean {
  const age = Date.now() - since
  return age >= 0 && age < duration
}
