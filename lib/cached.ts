import { findOidcError } from './errors.ts'

export interface CacheTimes {
  /** How long a value is used without asking again, in milliseconds. */
  maxAge: number
  /** How long a value is still used when asking again fails, in milliseconds since it was loaded. */
  maxStale: number
  /** How long a failure is remembered, in milliseconds. */
  retryAfter: number
}

export interface Cached<T> {
  /** The value, loaded when there is none or it is too old; however many wait, it is loaded once. */
  get: () => Promise<T>
  /** Another value than `seen`: one that was loaded since, or one that is loaded now if `mayLoad` says so, else `seen` again; throws when loading failed last. */
  newerThan: (seen: T, mayLoad: () => boolean) => Promise<T>
}

/** One value that is loaded when it is needed and survives outages of its source. */
export function createCached<T> (load: () => Promise<T>, times: CacheTimes): Cached<T> {
  let value: { content: T, loadedAt: number } | undefined
  let failure: { error: unknown, failedAt: number, wait: number } | undefined
  let loading: Promise<T> | undefined

  async function loadNow (): Promise<T> {
    try {
      const content = await load()
      value = { content, loadedAt: Date.now() }
      failure = undefined
      return content
    } catch (error) {
      const wait = Math.min((findOidcError(error)?.retryAfter ?? 0) * 1000, 60_000)
      failure = { error, failedAt: Date.now(), wait: Math.max(times.retryAfter, wait) }
      throw error
    }
  }

  function start (): Promise<T> {
    loading ??= loadNow().finally(() => { loading = undefined })
    return loading
  }

  async function loadOrStale (): Promise<T> {
    try {
      if (failure !== undefined && isWithin(failure.failedAt, failure.wait)) throw failure.error
      return await start()
    } catch (error) {
      if (value !== undefined && isWithin(value.loadedAt, times.maxStale)) return value.content
      throw error
    }
  }

  async function get (): Promise<T> {
    const fresh = value !== undefined && isWithin(value.loadedAt, times.maxAge)
    return fresh ? (value as { content: T }).content : await loadOrStale()
  }

  async function newerThan (seen: T, mayLoad: () => boolean): Promise<T> {
    if (value !== undefined && value.content !== seen) return value.content
    if (loading !== undefined || mayLoad()) return await start()
    // Whoever needs another value while none can be had is to hear of that, and not that theirs is wrong.
    if (failure !== undefined) throw failure.error
    return seen
  }

  return { get, newerThan }
}

// A clock that was set back must neither keep a failure nor a value for longer.
function isWithin (since: number, duration: number): boolean {
  const age = Date.now() - since
  return age >= 0 && age < duration
}
