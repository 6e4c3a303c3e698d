/**
 * Where things are kept that must outlive a process, or that several processes must know.
 *
 * Every function is atomic, also across processes, and none sees an entry that has expired. Keys and tags are
 * hashes and
 * values are encrypted: whoever reads the store learns when what expires and, of a person whose `sub` they
 * know, whether
 * there is something, but nothing that can be used. A store handles them as opaque text of
 * printable ASCII, keys and tags of at most 128 characters without spaces, values of at most 64 KiB. A store
 * that cannot do its work throws.
 */
export interface Store {
  /** The value, or `null`. */
  get: (key: string) => Promise<string | null>
  /** Whether there is an entry: asked with every request, it should cost little. */
  has: (key: string) => Promise<boolean>
  /** Writes an entry, whatever was there before. */
  set: (key: string, value: string, options: EntryOptions) => Promise<void>
  /** Writes an entry unless there is one: the first of several callers gets `true`, the others `false`. */
  create: (key: string, value: string, options: EntryOptions) => Promise<boolean>
  /** Writes a new value and time, keeping the tags, if the value is still `expected` (compare and set). */
  replace: (key: string, expected: string, value: string, expiresAt: number) => Promise<boolean>
  /** Removes the entry: one of several callers gets its value, the others `null`. */
  take: (key: string) => Promise<string | null>
  /**
   * The entries with a tag, in the order of their keys, at most `limit` (default 1000) whose keys come after
   * `after`.
   */
  list: (tag: string, options?: { limit?: number, after?: string }) => Promise<StoreEntry[]>
  /**
   * Removes what has expired, in small steps; says how much. Called now and then: what has expired is never
   * seen anyway.
   */
  purge: () => Promise<number>
  /** Gives back what the store opened itself; a client or pool of the caller's stays open. */
  close: () => Promise<void>
}

export interface EntryOptions {
  /** Seconds since the epoch. */
  expiresAt: number
  /** By which the entry can be found, at most 4. Default: none. */
  tags?: readonly string[]
}

export interface StoreEntry {
  key: string
  value: string
}
