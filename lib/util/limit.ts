/** A token bucket: so many at once, then so many per second. */
export interface Limit {
  /** Takes one, if there is one now. */
  take: () => boolean
  /** Takes one in advance, although there is none yet. */
  spend: () => void
  /** How long it takes until there is one, in seconds. */
  wait: () => number
}

export interface Rate {
  burst: number
  perSecond: number
}

export function createLimit ({ burst, perSecond }: Rate): Limit {
  let tokens = burst
  let filledAt = Date.now()

  function fill (): void {
    const time = Date.now()
    tokens = Math.min(burst, tokens + Math.max(0, time - filledAt) / 1000 * perSecond)
    filledAt = time
  }

  return {
    take () {
      fill()
      if (tokens < 1) return false
      tokens -= 1
      return true
    },
    spend () {
      fill()
      tokens -= 1
    },
    wait () {
      fill()
      return Math.max(0, 1 - tokens) / perSecond
    }
  }
}
