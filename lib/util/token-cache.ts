import { createBoundedMap } from './bounded-map.ts'
import { detach } from './detach.ts'

/** Values that belong to tokens or sealed cookies. Only the exact token finds its value. */
export interface TokenCache<V> {
  /** `qualifier` tells apart the values of one token. */
  get: (token: string, qualifier?: string | undefined) => V | undefined
  /** Stores the value if the cache has seen the token before. */
  add: (token: string, value: V, options?: AddOptions) => void
  clear: () => void
}

export interface AddOptions {
  /** In seconds since the epoch. Without it, the value stays until it is the oldest. */
  expiresAt?: number
  qualifier?: string | undefined
}

// The last characters of a token or sealed value are part of its signature or nonce, so they are random.
const KEY_LENGTH = 32

/** Holds at most `limit` values and drops the oldest. */
export function createTokenCache<V> (limit: number): TokenCache<V> {
  const entries = createBoundedMap<{ token: string, value: V }>(limit)
  const isWorthKeeping = createAdmission(limit)

  return {
    get (token, qualifier) {
      const entry = entries.get(keyOf(token, qualifier))
      return entry?.token === token ? entry.value : undefined
    },

    add (token, value, { expiresAt, qualifier } = {}) {
      if (!isWorthKeeping(token.slice(-KEY_LENGTH), entries.size)) return
      const copy = detach(token)
      entries.set(keyOf(copy, qualifier), { token: copy, value }, expiresAt)
    },

    clear: entries.clear
  }
}

function keyOf (token: string, qualifier: string | undefined): string {
  const end = token.slice(-KEY_LENGTH)
  return qualifier === undefined ? end : end + qualifier
}

/** Freezes a JSON value and everything in it, because several requests share it. */
export function freeze<T> (value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(Object.freeze(value)).forEach(freeze)
  return value
}

// Must be a power of two.
const SLOTS = 8192
/**
 * The share of tokens that enter a full cache. If all of them entered, tokens that come in turn would drop
 * each other just before they come again.
 */
const ADMITTED_SHARE = 1 / 4

/**
 * Decides whether a token is worth a place in a cache of `limit` entries: storing a token that comes only once
 * costs more than it saves. So it asks whether the token was seen lately. It recognizes a token by 64 of its
 * random bits, given in base64. A wrong match is harmless: it only puts a token into the cache too early.
 * Each token has two slots: two tokens that share one slot and come in turn would otherwise never be recognized.
 */
export function createAdmission (limit: number): (random: string, size: number) => boolean {
  const [first, second] = [new Int32Array(SLOTS), new Int32Array(SLOTS)]
  const bytes = Buffer.alloc(8)

  function wasSeen (random: string): boolean {
    bytes.write(random, 'base64')
    const [mark, other] = [bytes.readInt32LE(0), bytes.readInt32LE(4)]
    const [slot, otherSlot] = [mark & (SLOTS - 1), other & (SLOTS - 1)]
    const seen = first[slot] === mark || second[otherSlot] === mark
    first[slot] = second[otherSlot] = mark
    return seen
  }

  return (random, size) => wasSeen(random) && (size < limit || Math.random() < ADMITTED_SHARE)
}
