/**
 * A key-value store with expiry, for state that several processes share or that must survive a restart.
 *
 * Each function is atomic, also across processes. No function sees an entry that has expired. A function that cannot do
 * its work throws.
 *
 * Keys and tags are hashes; values are encrypted. A reader of the store sees when entries expire, and can test whether
 * there is an entry for a `sub` that the reader already knows, but cannot use any of them.
 *
 * A store treats keys, tags and values as opaque text of printable ASCII. Keys and tags have at most 128 characters and
 * no spaces; values have at most 65536 characters.
 *
 * `storeContract` of `fastify-oidc/testing` tests an implementation.
 */
export interface Store {
  /** Returns the value of the entry, or `null` when there is none. */
  get: (key: string) => Promise<string | null>
  /** Returns whether there is an entry. Called with every request, so it should be fast. */
  has: (key: string) => Promise<boolean>
  /** Writes an entry and its tags. Replaces any entry with the same key. */
  set: (key: string, value: string, options: EntryOptions) => Promise<void>
  /**
   * Writes an entry only when there is none with that key. Of several concurrent callers, exactly one gets `true`; the
   * others get `false`.
   */
  create: (key: string, value: string, options: EntryOptions) => Promise<boolean>
  /**
   * Compare and set: writes a new value and expiry time when the current value equals `expected`. Keeps the tags.
   * Returns whether it has written.
   *
   * @param expiresAt - in seconds since the epoch
   */
  replace: (key: string, expected: string, value: string, expiresAt: number) => Promise<boolean>
  /** Removes an entry. Of several concurrent callers, one gets its value; the others get `null`. */
  take: (key: string) => Promise<string | null>
  /**
   * Returns the entries that have a tag, sorted by key in ASCII order.
   *
   * - `limit`: how many entries at most. Default: 1000.
   * - `after`: only entries whose key sorts after this one. Default: from the first.
   */
  list: (tag: string, options?: { limit?: number, after?: string }) => Promise<StoreEntry[]>
  /**
   * Deletes expired entries, in small steps, and returns how many. Called every ten minutes to free space; expired
   * entries are invisible before that.
   *
   * - `limit`: how many entries at most. The caller calls again for the others until fewer are deleted. A store may
   *   ignore it. Default: all.
   */
  purge: (options?: { limit?: number }) => Promise<number>
  /** Optional. Counts the expired entries that are not deleted yet, up to `limit`: for the log of a long purge. */
  countExpired?: (limit: number) => Promise<number>
  /**
   * Optional. Returns whether entries are still there after the server of the store has restarted; `undefined` when the
   * store cannot tell. `app.oidc.health()` asks for it.
   */
  isDurable?: () => Promise<boolean | undefined>
  /**
   * Optional. Returns what an operator should know or change, a sentence each. Called at start and every ten minutes;
   * each sentence is logged once, at level `warn`.
   */
  warnings?: () => Promise<string[]>
  /**
   * Optional. `true` when the entries are only in the memory of this process. Then the plugin seals them in a smaller
   * form, which other versions of the plugin do not read: values have any characters up to U+00FF. Default: `false`.
   */
  inProcess?: boolean
  /** Releases what the store opened itself. A client or pool that the application passed in stays open. */
  close: () => Promise<void>
}

export interface EntryOptions {
  /** When the entry expires, in seconds since the epoch. */
  expiresAt: number
  /** Tags by which `list` finds the entry, at most 4. Default: none. */
  tags?: readonly string[]
}

export interface StoreEntry {
  key: string
  value: string
}
