import { startClock, startProvider } from '../../lib/testing/index.ts'
import type { Test } from 'tap'
import type { Provider } from '../../lib/testing/index.ts'

/** Starts a provider. The end of the test closes it. */
export async function startedProvider (t: Test): Promise<Provider> {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  return provider
}

/** Starts a clock that the test can move. The end of the test restores the real one. */
export function startedClock (t: Test): ReturnType<typeof startClock> {
  const clock = startClock()
  t.teardown(() => clock.restore())
  return clock
}
