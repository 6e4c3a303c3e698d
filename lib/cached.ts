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
  /** A value whose loading began after this call. */
  reload: () => Promise<T>
}

/** One value that is loaded when it is needed and survives outages of its source. */
export function createCached<T> (load: () => Promise<T>, times: CacheTimes): Cached<T> {
  let value: { content: T, loadedAt: number } | undefined
  let failure: { error: unknown, until: number } | undefined
  let loading: Promise<T> | undefined
  let queued: Promise<T> | undefined

  async function loadNow (): Promise<T> {
    try {
      const content = await load()
      value = { content, loadedAt: Date.now() }
      failure = undefined
      return content
    } catch (error) {
      const wait = (findOidcError(error)?.retryAfter ?? 0) * 1000
      failure = { error, until: Date.now() + Math.max(times.retryAfter, Math.min(wait, 60_000)) }
      throw error
    } finally {
      loading = undefined
    }
  }

  function start (): Promise<T> {
    loading ??= loadNow()
    return loading
  }

  async function loadOrStale (): Promise<T> {
    try {
      if (failure !== undefined && Date.now() < failure.until) throw failure.error
      return await start()
    } catch (error) {
      if (value !== undefined && Date.now() - value.loadedAt < times.maxStale) return value.content
      throw error
    }
  }

  async function get (): Promise<T> {
    const fresh = value !== undefined && Date.now() - value.loadedAt < times.maxAge
    return fresh ? (value as { content: T }).content : await loadOrStale()
  }

  // What is under way may have begun before the caller saw that it needs a newer value: it waits for the next.
  async function loadNext (): Promise<T> {
    await loading?.catch(() => {})
    queued = undefined
    return await start()
  }

  function reload (): Promise<T> {
    queued ??= loading === undefined ? undefined : loadNext()
    return queued ?? start()
  }

  return { get, reload }
}
