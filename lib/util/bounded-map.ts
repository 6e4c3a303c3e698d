import { createQueue, empty, join, leave } from './queue.ts'
import { elapsed, now } from './time.ts'
import type { Queued } from './queue.ts'

/** A map with a limit: it drops the oldest entries, and those that have expired. */
export interface BoundedMap<V> {
  get: (key: string) => V | undefined
  /** `expiresAt` in seconds since the epoch. Without it, the entry stays until it is the oldest. */
  set: (key: string, value: V, expiresAt?: number) => void
  delete: (key: string) => void
  clear: () => void
  /** The values, oldest first. */
  values: () => V[]
  readonly size: number
}

/** When an entry expires. */
interface Expiry {
  /** In seconds since the epoch. */
  expiresAt: number
  /** When its lifetime is over by `passed` of the rule, in milliseconds. */
  endsAt: number
}

/** Which clock says that an entry has expired. */
interface Rule {
  passed: () => number
  isOver: (expiry: Expiry) => boolean
  /** Whether the entry need not be kept any more. */
  isUseless: (expiry: Expiry) => boolean
}

const isSpent = ({ endsAt }: Expiry): boolean => endsAt <= elapsed()

/** For what counts for a while, such as an answer of the provider. A clock that is set back prolongs nothing. */
const ALLOWED: Rule = { passed: elapsed, isOver: isSpent, isUseless: isSpent }

const isOver = ({ expiresAt }: Expiry): boolean => expiresAt <= now()

/**
 * For what is refused for a while, such as the second use of a login. It is refused as long as the clock would accept
 * it, and kept until real time has passed: no jump of the clock, forward and back, makes the map forget it.
 */
export const REFUSED: Rule = {
  passed: () => performance.now(),
  isOver,
  isUseless: (expiry) => isOver(expiry) && expiry.endsAt <= performance.now()
}

interface Entry<V> extends Expiry, Queued<Entry<V>> {
  key: string
  value: V
}

export function createBoundedMap<V> (limit: number, rule = ALLOWED): BoundedMap<V> {
  const entries = new Map<string, Entry<V>>()
  const queue = createQueue<Entry<V>>()

  function remove (key: string): void {
    const entry = entries.get(key)
    if (entry === undefined) return
    entries.delete(key)
    leave(queue, entry)
  }

  const lasts = ({ expiresAt }: Expiry): boolean => expiresAt === Infinity
  const isUseless = (entry: Expiry): boolean => !lasts(entry) && rule.isUseless(entry)

  // If all entries live equally long, the oldest expire first: each new entry removes those that have expired.
  function dropOldest (): void {
    while (queue.oldest !== undefined && (queue.length > limit || isUseless(queue.oldest))) remove(queue.oldest.key)
  }

  return {
    get (key) {
      const entry = entries.get(key)
      return entry !== undefined && (lasts(entry) || !rule.isOver(entry)) ? entry.value : undefined
    },
    set (key, value, expiresAt = Infinity) {
      remove(key)
      const endsAt = expiresAt === Infinity ? Infinity : rule.passed() + (expiresAt * 1000 - Date.now())
      const entry: Entry<V> = { key, value, expiresAt, endsAt, older: undefined, newer: undefined }
      entries.set(key, entry)
      join(queue, entry)
      dropOldest()
    },
    delete: remove,
    clear () {
      entries.clear()
      empty(queue)
    },
    values () {
      const values: V[] = []
      for (let entry = queue.oldest; entry !== undefined; entry = entry.newer) values.push(entry.value)
      return values
    },
    get size () {
      return entries.size
    }
  }
}
