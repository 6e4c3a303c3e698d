import { setTimeout as delay } from 'node:timers/promises'

/** How long work goes on before it rests, and the longest rest, in milliseconds. */
const WORK = 10
const MAX_REST = 100

/**
 * Gives long work a pace. The function that it returns is called before each piece of work: after every ten
 * milliseconds it rests for as long as the work took, so that requests are served in between.
 */
export function createPace (): () => Promise<void> {
  let since = performance.now()
  return async () => {
    const worked = performance.now() - since
    if (worked < WORK) return
    await delay(Math.min(worked, MAX_REST))
    since = performance.now()
  }
}
