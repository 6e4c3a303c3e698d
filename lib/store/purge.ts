import { setImmediate } from 'node:timers/promises'
import { createPace } from '../util/pace.ts'
import { withTimeout } from './with-timeout.ts'
import type { Store } from '../../types/store.ts'

/** What a purge has done. */
export interface Purge {
  removed: number
  /** How many expired entries are left, at most COUNTED. `undefined` when the store does not count them. */
  left: number | undefined
}

export interface PurgeLimits {
  /** How many entries the store removes at a time. */
  step?: number
  /** How long a purge goes on, in milliseconds. The entries that are left wait for the next one. */
  time?: number
}

/** How long one step may take, in milliseconds: a store may remove everything in one step. */
const STEP_TIMEOUT = 60_000
/** How far the entries that are left are counted. */
const COUNTED = 100_000

/** Removes expired entries in small steps, with rests in between. Throws FST_OIDC_STORE_UNAVAILABLE. */
export async function purge (store: Store, { step = 500, time = 30_000 }: PurgeLimits = {}): Promise<Purge> {
  const end = performance.now() + time
  const pace = createPace()
  let removed = 0
  do {
    const count = await withTimeout(async () => await store.purge({ limit: step }), STEP_TIMEOUT)
    removed += count
    if (count < step) return { removed, left: 0 }
    await pace()
  } while (performance.now() < end)
  return { removed, left: await withTimeout(async () => await store.countExpired?.(COUNTED)) }
}

/**
 * For a store: removes at most `limit` entries, at most `step` by each call of `remove`, which returns how many it has
 * removed. Requests are served in between.
 */
export async function removeInSteps (
  limit: number,
  step: number,
  remove: (count: number) => Promise<number>
): Promise<number> {
  let removed = 0
  while (removed < limit) {
    const wanted = Math.min(step, limit - removed)
    const count = await remove(wanted)
    removed += count
    if (count < wanted) break
    await setImmediate()
  }
  return removed
}
