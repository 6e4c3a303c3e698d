/** The middle of several rounds, with the extremes that were seen. */
export interface Figure { median: number, min: number, max: number }

export function figure (values: number[]): Figure {
  const sorted = [...values].sort((a, b) => a - b)
  return { median: middle(sorted), min: sorted[0] as number, max: sorted.at(-1) as number }
}

function middle (sorted: number[]): number {
  const half = sorted.length >> 1
  const upper = sorted[half] as number
  return sorted.length % 2 === 1 ? upper : ((sorted[half - 1] as number) + upper) / 2
}

/**
 * Two cases measured in the same rounds: the ratio of each round, so that a machine that is slower
 * for a while is slower for both.
 */
export function ratios (values: number[], others: number[]): Figure {
  return figure(values.map((value, round) => value / (others[round] as number)))
}

/** The items of a round, in an order that differs from round to round. */
export function rotate<T> (items: T[], round: number): T[] {
  const at = round % items.length
  return [...items.slice(at), ...items.slice(0, at)]
}
