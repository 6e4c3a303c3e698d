import { OidcError } from '../errors.ts'
import { sha256 } from '../util/crypto.ts'
import { createPace } from '../util/pace.ts'
import { withTimeout } from './with-timeout.ts'
import { purge } from './purge.ts'
import type { Sealer } from '../sealer.ts'
import type { EntryOptions, Store } from '../../types/store.ts'
import type { SmallBox } from '../util/small-box.ts'
import type { Purge } from './purge.ts'

/** Names an entry. It becomes a key or a tag with the kind in clear text and the parts hashed. */
export type EntryName = readonly [kind: string, ...parts: string[]]

/** An entry as it was read or written. `replace` needs it. */
export interface Entry<T> {
  content: T
  sealed: string
  /** Whether an older key sealed it. */
  rotated: boolean
}

/**
 * A store that hashes names and encrypts contents. Times are in seconds since the epoch. Every method throws
 * FST_OIDC_STORE_UNAVAILABLE if the store fails or does not answer in time.
 */
export interface SealedStore {
  get: <T>(name: EntryName) => Promise<Entry<T> | null>
  set: (name: EntryName, content: unknown, expiresAt: number, tags?: EntryName[]) => Promise<void>
  /** Writes a new entry. Returns `null` if there is one already. */
  create: <T>(name: EntryName, content: T, expiresAt: number, tags?: EntryName[]) => Promise<Entry<T> | null>
  /** Replaces the entry if it is unchanged since `seen` was read. Returns whether it was replaced. */
  replace: (name: EntryName, seen: Entry<unknown>, content: unknown, expiresAt: number) => Promise<boolean>
  /** Returns whether there was an entry. */
  remove: (name: EntryName) => Promise<boolean>
  /**
   * The contents of all entries with a tag. It leaves out entries that no key opens. It rests now and then, so that a
   * caller who works through many entries leaves room for requests.
   */
  list: <T>(tag: EntryName) => AsyncGenerator<T>
  has: (name: EntryName) => Promise<boolean>
  /** The highest number written so far, or 0. It is not encrypted, so it stays readable after key rotation. */
  max: (name: EntryName) => Promise<number>
  /** Raises the number of `max` to at least `value`. Returns whether it was lower before. */
  raise: (name: EntryName, value: number, expiresAt: number) => Promise<boolean>
  /** Whether entries survive a restart of the store; `undefined` when the store does not tell. */
  isDurable: () => Promise<boolean | undefined>
  /** Removes expired entries, for half a minute at most. */
  purge: () => Promise<Purge>
  /** What an operator should know about the store. */
  warnings: () => Promise<string[]>
  close: () => Promise<void>
}

/** How often to try to raise a number while other processes raise it too. */
const MAX_ATTEMPTS = 100

const UNREADABLE = {
  detail: 'an entry cannot be opened: another key sealed it, or it was changed',
  kind: 'unreadable'
} as const

/** Whether an error means that no key opens an entry. */
export function isUnreadable ({ kind }: OidcError): boolean {
  return kind === 'unreadable'
}

/** `owner` tells apart the entries of applications that share one store. */
export function createSealedStore (store: Store, sealer: Sealer, owner: readonly string[]): SealedStore {
  const keyOf = ([kind, ...parts]: EntryName): string => `${kind}:${sha256(JSON.stringify([owner, parts]))}`

  const entryOptions = (expiresAt: number, tags: EntryName[] = []): EntryOptions => ({
    expiresAt: Math.ceil(expiresAt),
    tags: tags.map(keyOf)
  })

  const { seal, open: openContent } = store.inProcess === true ? sealer.small : textBox(sealer)

  function open<T> (key: string, sealed: string): Entry<T> | null {
    const opened = openContent(key, sealed)
    return opened === null ? null : { content: opened.content as T, sealed, rotated: opened.rotated }
  }

  /** Returns `undefined` if another process wrote at the same time. */
  async function tryToRaise (key: string, value: number, expiresAt: number): Promise<boolean | undefined> {
    const current = await withTimeout(() => store.get(key))
    if (Number(current) >= value) return false
    const options = entryOptions(expiresAt)
    const isRaised = current === null
      ? await withTimeout(() => store.create(key, String(value), options))
      : await withTimeout(() => store.replace(key, current, String(value), options.expiresAt))
    return isRaised ? true : undefined
  }

  return {
    async get<T> (name: EntryName) {
      const key = keyOf(name)
      const sealed = await withTimeout(() => store.get(key))
      if (sealed === null) return null
      const entry = open<T>(key, sealed)
      if (entry === null) throw new OidcError('FST_OIDC_STORE_UNAVAILABLE', UNREADABLE)
      return entry
    },

    async set (name, content, expiresAt, tags) {
      const key = keyOf(name)
      await withTimeout(() => store.set(key, seal(key, content), entryOptions(expiresAt, tags)))
    },

    async create (name, content, expiresAt, tags) {
      const key = keyOf(name)
      const sealed = seal(key, content)
      const isNew = await withTimeout(() => store.create(key, sealed, entryOptions(expiresAt, tags)))
      return isNew ? { content, sealed, rotated: false } : null
    },

    async replace (name, { sealed }, content, expiresAt) {
      const key = keyOf(name)
      return await withTimeout(() => store.replace(key, sealed, seal(key, content), Math.ceil(expiresAt)))
    },

    remove: async (name) => await withTimeout(() => store.take(keyOf(name))) !== null,

    async * list<T> (tag: EntryName) {
      let after = ''
      for (;;) {
        const page = await withTimeout(() => store.list(keyOf(tag), { after }))
        const last = page.at(-1)
        if (last === undefined) return
        const pace = createPace()
        for (const { key, value } of page) {
          await pace()
          const entry = open<T>(key, value)
          if (entry !== null) yield entry.content
        }
        after = last.key
      }
    },

    has: async (name) => await withTimeout(() => store.has(keyOf(name))),

    max: async (name) => Number(await withTimeout(() => store.get(keyOf(name)))),

    async raise (name, value, expiresAt) {
      const key = keyOf(name)
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        const raised = await tryToRaise(key, value, expiresAt)
        if (raised !== undefined) return raised
      }
      const detail = 'the store: other processes write the same entry all the time'
      throw new OidcError('FST_OIDC_STORE_UNAVAILABLE', { detail })
    },

    purge: async () => await purge(store),

    isDurable: async () => await withTimeout(async () => await store.isDurable?.()),

    warnings: async () => await withTimeout(async () => await store.warnings?.() ?? []),

    close: async () => await store.close()
  }
}

/** Both boxes bind a content to its key: a client of the store that can write cannot swap two entries. */
function textBox (sealer: Sealer): SmallBox {
  return {
    seal: (key, content) => sealer.seal('store', { key, content }),

    open (key, sealed) {
      const opened = sealer.open('store', sealed)
      if (opened === null) return null
      const inside = opened.content as { key: string, content: unknown }
      return inside.key === key ? { content: inside.content, rotated: opened.rotated } : null
    }
  }
}
