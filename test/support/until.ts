import { setTimeout as delay } from 'node:timers/promises'

/**
 * Waits for what happens behind a response.
 * @throws Error after 10 seconds
 */
export async function until (condition: () => boolean): Promise<void> {
  for (const end = performance.now() + 10_000; !condition(); await delay(5)) {
    if (performance.now() > end) throw new Error(`waited in vain for ${String(condition)}`)
  }
}
