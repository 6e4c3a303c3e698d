import { hash } from 'node:crypto'
import { OidcError } from '../errors.ts'
import type { Sealer } from '../sealer.ts'
import type { EntryOptions, Store } from '../../types/store.ts'

/** What an entry is about, and whose it is: it becomes a key or a tag, which tells nothing. */
export type EntryName = readonly [kind: string, ...parts: string[]]

/** An entry as it was read or written: `replace` needs it. */
export interface Entry<T> {
  content: T
  sealed: string
  /** Whether an older key sealed it. */
  rotated: boolean
}

/**
 * The store as the plugin uses it: names are hashed, contents encrypted. Times are in seconds since the epoch.
 * Each function throws FST_OIDC_STORE_UNAVAILABLE, also when the store does not answer in time.
 */
export interface SealedStore {
  get: <T>(name: EntryName) => Promise<Entry<T> | null>
  set: (name: EntryName, content: unknown, expiresAt: number, tags?: EntryName[]) => Promise<void>
  /** The entry, or `null` where there was one before. */
  create: <T>(name: EntryName, content: T, expiresAt: number, tags?: EntryName[]) => Promise<Entry<T> | null>
  /** Whether it was still what `seen` says. */
  replace: (name: EntryName, seen: Entry<unknown>, content: unknown, expiresAt: number) => Promise<boolean>
  /** Whether it was there. */
  remove: (name: EntryName) => Promise<boolean>
  /** All with that tag, but what no key opens. */
  list: <T>(tag: EntryName) => AsyncGenerator<T>
  has: (name: EntryName) => Promise<boolean>
  /** A number that was raised; 0 when it never was. It is no secret, and so it outlasts the keys. */
  max: (name: EntryName) => Promise<number>
  /** Whether it was lower before. */
  raise: (name: EntryName, height: number, expiresAt: number) => Promise<boolean>
  purge: () => Promise<void>
  close: () => Promise<void>
}

/** What an entry is that no key opens. */
const UNREADABLE = 'an entry cannot be opened: it was made with another key, or changed'

export function isUnreadable ({ detail }: OidcError): boolean {
  return detail === UNREADABLE
}

/** How long a store may take, in milliseconds. */
const TIMEOUT = 4000
/** How often a number is tried to raise, while others raise it as well. */
const ATTEMPTS = 100

/** Several applications may share a store: `owner` tells their entries apart. */
export function createSealedStore (store: Store, sealer: Sealer, owner: readonly string[]): SealedStore {
  const keyOf = ([kind, ...parts]: EntryName): string =>
    `${kind}:${hash('sha256', JSON.stringify([owner, parts]), 'base64url')}`
  const entryOptions = (expiresAt: number, tags: EntryName[]): EntryOptions => ({
    expiresAt: Math.ceil(expiresAt),
    tags: tags.map(keyOf)
  })
  // The key is inside as well: whoever can write to the store cannot pass one entry off as another.
  const seal = (key: string, content: unknown): string => sealer.seal('store', { key, content })

  function open<T> (key: string, sealed: string): Entry<T> | null {
    const opened = sealer.open('store', sealed)
    const inside = opened?.content as { key: string, content: T } | undefined
    return opened === null || inside?.key !== key ? null : { content: inside.content, sealed, rotated: opened.rotated }
  }

  async function tryToRaise (key: string, height: number, expiresAt: number): Promise<boolean | undefined> {
    const value = await guard(() => store.get(key))
    if (Number(value) >= height) return false
    const raised = value === null
      ? await guard(() => store.create(key, String(height), entryOptions(expiresAt, [])))
      : await guard(() => store.replace(key, value, String(height), Math.ceil(expiresAt)))
    return raised ? true : undefined
  }

  return {
    async get<T> (name: EntryName) {
      const key = keyOf(name)
      const sealed = await guard(() => store.get(key))
      if (sealed === null) return null
      const found = open<T>(key, sealed)
      if (found === null) throw new OidcError('FST_OIDC_STORE_UNAVAILABLE', { detail: UNREADABLE })
      return found
    },

    async set (name, content, expiresAt, tags = []) {
      const key = keyOf(name)
      await guard(() => store.set(key, seal(key, content), entryOptions(expiresAt, tags)))
    },

    async create (name, content, expiresAt, tags = []) {
      const key = keyOf(name)
      const sealed = seal(key, content)
      return (await guard(() => store.create(key, sealed, entryOptions(expiresAt, tags))))
        ? { content, sealed, rotated: false }
        : null
    },

    async replace (name, { sealed }, content, expiresAt) {
      const key = keyOf(name)
      return await guard(() => store.replace(key, sealed, seal(key, content), Math.ceil(expiresAt)))
    },

    remove: async (name) => await guard(() => store.take(keyOf(name))) !== null,

    async * list<T> (tag: EntryName) {
      let after = ''
      for (;;) {
        const entries = await guard(() => store.list(keyOf(tag), { after }))
        const last = entries.at(-1)
        if (last === undefined) return
        for (const { key, value } of entries) {
          const found = open<T>(key, value)
          if (found !== null) yield found.content
        }
        after = last.key
      }
    },

    has: async (name) => await guard(() => store.has(keyOf(name))),

    max: async (name) => Number(await guard(() => store.get(keyOf(name)))),

    async raise (name, height, expiresAt) {
      const key = keyOf(name)
      for (let attempts = 0; attempts < ATTEMPTS; attempts++) {
        const raised = await tryToRaise(key, height, expiresAt)
        if (raised !== undefined) return raised
      }
      throw new OidcError('FST_OIDC_STORE_UNAVAILABLE', { detail: 'the store: others write all the time' })
    },

    async purge () {
      await guard(() => store.purge())
    },

    close: async () => await store.close()
  }
}

/**
 * A store that fails, or does not answer in time, is one error: who asked neither waits for ever nor takes it
 * for an answer.
 */
async function guard<T> (ask: () => Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('no answer in time')), TIMEOUT)
  })
  // One that throws at once fails as well.
  const answer = async (): Promise<T> => await ask()
  return await Promise.race([answer(), late]).catch(failed).finally(() => clearTimeout(timer))
}

function failed (cause: unknown): never {
  throw new OidcError('FST_OIDC_STORE_UNAVAILABLE', {
    cause,
    detail: `the store: ${cause instanceof Error ? cause.message : 'failed'}`
  })
}
