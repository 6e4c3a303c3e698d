import { setTimeout as delay } from 'node:timers/promises'
import { createLimit } from '../util/limit.ts'
import { PATIENCE, unknownKey } from './reload.ts'
import type { Permits } from '../util/cached.ts'

/** When keys may be fetched again because of a token. */
export interface ReloadPermits {
  /** Its key is not known: nothing can be said of it without the next fetch. */
  ofUnknownKey: Permits
  /** Its key is known, unless another one has got the same name: without a permit, the token is refused. */
  ofWrongSignature: Permits
}

/** Such tokens may cause `burst` fetches at once, then `perSecond`. */
const RELOADS = { burst: 5, perSecond: 1 }
/** How many requests wait for the next fetch. */
const MAX_WAITING = 100

/** `waitFor` limits how long a request waits for a fetch that runs. All requests that wait share the next fetch. */
export function createReloadPermits (waitFor: Permits['waitFor']): ReloadPermits {
  const limit = createLimit(RELOADS)
  let waiting = 0
  let next: Promise<void> | undefined

  const take = (): boolean => next === undefined && limit.take()

  async function waitForNext (): Promise<void> {
    await delay(Math.ceil(limit.wait() * 1000))
    limit.spend()
    next = undefined
  }

  async function wait (): Promise<boolean> {
    const isFarAway = next === undefined && limit.wait() > PATIENCE
    if (isFarAway || waiting === MAX_WAITING) throw unknownKey()
    waiting += 1
    next ??= waitForNext()
    await next
    waiting -= 1
    return true
  }

  return {
    ofUnknownKey: { take, next: wait, waitFor },
    ofWrongSignature: { take, next: async () => false, waitFor }
  }
}
