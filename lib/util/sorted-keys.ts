/**
 * Keys in ASCII order, in chunks: a change moves the keys of one chunk only, however many there are. Begins as `[]`,
 * and is `[]` again when it has no keys.
 */
export type SortedKeys = string[][]

/** How many keys a chunk has before it is divided. */
const MAX_CHUNK = 512

/** Adds a key, unless it is there already. */
export function addKey (chunks: SortedKeys, key: string): void {
  const at = chunkOf(chunks, key)
  const chunk = chunks[at]
  if (chunk === undefined) {
    chunks.push([key])
    return
  }
  const place = firstIndex(chunk.length, (index) => chunk[index] as string >= key)
  if (chunk[place] === key) return
  chunk.splice(place, 0, key)
  if (chunk.length > MAX_CHUNK) chunks.splice(at + 1, 0, chunk.splice(MAX_CHUNK / 2))
}

/** Removes a key, if it is there. */
export function removeKey (chunks: SortedKeys, key: string): void {
  const at = chunkOf(chunks, key)
  const chunk = chunks[at] ?? []
  const place = firstIndex(chunk.length, (index) => chunk[index] as string >= key)
  if (chunk[place] !== key) return
  chunk.splice(place, 1)
  if (chunk.length === 0) chunks.splice(at, 1)
}

/** The keys that sort after `after`, in their order. */
export function * keysAfter (chunks: SortedKeys, after: string): Generator<string> {
  for (let at = chunkOf(chunks, after); at < chunks.length; at++) {
    const chunk = chunks[at] as string[]
    const start = firstIndex(chunk.length, (index) => chunk[index] as string > after)
    for (let place = start; place < chunk.length; place++) yield chunk[place] as string
  }
}

/** The chunk in which a key is or would be: the last one that does not begin after it. */
function chunkOf (chunks: SortedKeys, key: string): number {
  return Math.max(0, firstIndex(chunks.length, (index) => (chunks[index] as string[])[0] as string > key) - 1)
}

/** The first index from which on `isAfter` holds, by bisection. */
function firstIndex (length: number, isAfter: (index: number) => boolean): number {
  let [low, high] = [0, length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (isAfter(middle)) high = middle
    else low = middle + 1
  }
  return low
}
