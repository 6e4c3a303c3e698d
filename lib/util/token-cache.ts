const SLOTS = 8192
/**
 * What gets a place in a full cache: with more, those that come in turn would each drive out another just
 * before it comes again.
 */
const SHARE = 1 / 4

/**
 * Decides what is worth a place in a cache of `limit` entries, which costs more than it saves for whoever comes once.
 * It remembers, roughly, what came lately by what is random in it, in base64; that another one begins with
 * the same only
 * puts something into the cache too early. Each has two places: two that share one, and come in turn, would otherwise
 * never be known again.
 */
export function createAdmission (limit: number): (random: string, size: number) => boolean {
  const [first, second] = [new Int32Array(SLOTS), new Int32Array(SLOTS)]
  const bytes = Buffer.alloc(8)

  function wasSeen (random: string): boolean {
    bytes.write(random, 'base64')
    const [mark, other] = [bytes.readInt32LE(0), bytes.readInt32LE(4)]
    const [place, otherPlace] = [mark & (SLOTS - 1), other & (SLOTS - 1)]
    const seen = first[place] === mark || second[otherPlace] === mark
    first[place] = second[otherPlace] = mark
    return seen
  }

  return (random, size) => wasSeen(random) && (size < limit || Math.random() < SHARE)
}
