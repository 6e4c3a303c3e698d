/** The median of several rounds, with minimum and maximum. */
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
 * The ratios of two cases, round by round. Both are measured in the same rounds, so a machine that is slow for a while
 * slows both.
 */
export function ratios (values: number[], others: number[]): Figure {
  return figure(values.map((value, round) => value / (others[round] as number)))
}

/** The items in a different order for each round. */
export function rotate<T> (items: T[], round: number): T[] {
  const at = round % items.length
  return [...items.slice(at), ...items.slice(0, at)]
}
