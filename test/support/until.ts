import { setTimeout as delay } from 'node:timers/promises'

/**
 * Waits until the condition holds, for what happens after a response.
 * @throws Error after 60 seconds
 */
export async function until (condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + 60_000; !await condition(); await delay(5)) {
    if (performance.now() > end) throw new Error(`the condition did not hold within 60 seconds: ${String(condition)}`)
  }
}
