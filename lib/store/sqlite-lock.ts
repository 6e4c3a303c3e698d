import { setImmediate, setTimeout as delay } from 'node:timers/promises'

/** Does work that another process may lock out. It waits for the lock, without blocking the event loop. */
export type LockTurns = <T>(work: () => T) => Promise<T>

/** How long to wait for the lock, in milliseconds. */
const TIMEOUT = 3000
/** The longest pause between two attempts, in milliseconds. Processes that wait do not try at the same moments. */
const MAX_PAUSE = 20

/**
 * The drivers are synchronous: if SQLite waited for a lock itself, the whole process would stand still. So SQLite fails
 * at once, and the work is tried again later. Those who wait take turns: one of them tries, however many there are.
 */
export function createLockTurns (): LockTurns {
  let lastTurn: Promise<unknown> = Promise.resolve()

  return async (work) => {
    try {
      return work()
    } catch (error) {
      if (!isLocked(error)) throw error
    }
    const end = performance.now() + TIMEOUT
    const turn = lastTurn.then(async () => await retry(work, end))
    lastTurn = turn.catch(() => {})
    return await turn
  }
}

async function retry<T> (work: () => T, end: number): Promise<T> {
  await setImmediate() // many turns in a row must leave room for requests
  for (;;) {
    try {
      return work()
    } catch (error) {
      if (!isLocked(error) || performance.now() > end) throw error
      await delay(1 + Math.random() * MAX_PAUSE)
    }
  }
}

function isLocked (error: unknown): boolean {
  return /database is locked/.test(String(error))
}
