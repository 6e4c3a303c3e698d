/** The median of several rounds, and the quartiles: half of the rounds are between them. */
export interface Figure { low: number, median: number, high: number }

export function figure (values: number[]): Figure {
  const sorted = [...values].sort((a, b) => a - b)
  return { low: quantile(sorted, 0.25), median: quantile(sorted, 0.5), high: quantile(sorted, 0.75) }
}

function quantile (sorted: number[], share: number): number {
  const at = (sorted.length - 1) * share
  const [lower, upper] = [sorted[Math.floor(at)] as number, sorted[Math.ceil(at)] as number]
  return lower + (upper - lower) * (at % 1)
}

/**
 * The ratios of two cases, round by round. Both are measured in the same rounds, so a machine that is slow for a while
 * slows both.
 */
export function ratios (values: number[], others: number[]): Figure {
  return figure(values.map((value, round) => value / (others[round] as number)))
}

export type Verdict = 'met' | 'NOT MET' | 'not decided'

/** A goal is met, or not, only when three quarters of the rounds say so. */
export function atLeast (goal: number, { low, high }: Figure): Verdict {
  if (low >= goal) return 'met'
  return high < goal ? 'NOT MET' : 'not decided'
}

export function atMost (goal: number, { low, high }: Figure): Verdict {
  if (high <= goal) return 'met'
  return low > goal ? 'NOT MET' : 'not decided'
}

/** The items in another order in each round, so that none is always measured just after the same other one. */
export function order<T> (items: T[], round: number): T[] {
  const at = (round >> 1) % items.length
  const rotated = [...items.slice(at), ...items.slice(0, at)]
  return round % 2 === 0 ? rotated : rotated.reverse()
}
