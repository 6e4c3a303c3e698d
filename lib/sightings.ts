const SLOTS = 8192

/**
 * Remembers, roughly, what came lately: whoever comes once is not worth a place in the cache, which costs more than it saves then.
 * What it looks at begins with random characters, in base64; that another one has the same only puts something into a cache too early.
 * Each has two places: two that share one, and come in turn, would otherwise never be known again.
 */
export function createSightings (): (random: string) => boolean {
  const [first, second] = [new Int32Array(SLOTS), new Int32Array(SLOTS)]
  return (random) => {
    const bytes = Buffer.from(random, 'base64')
    const [mark, other] = [bytes.readInt32LE(0), bytes.readInt32LE(4)]
    const [place, otherPlace] = [mark & (SLOTS - 1), other & (SLOTS - 1)]
    const seen = first[place] === mark || second[otherPlace] === mark
    first[place] = second[otherPlace] = mark
    return seen
  }
}
