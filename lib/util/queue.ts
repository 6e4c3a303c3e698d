/**
 * Entries in the order in which they came, as a linked list: each can leave at once, wherever it is. A Map alone would
 * be slow: after many deletions at its start, it takes long to find the first entry.
 */
export interface Queue<E> {
  oldest: E | undefined
  newest: E | undefined
  length: number
}

/** What an entry needs to be in a queue. */
export interface Queued<E> {
  older: E | undefined
  newer: E | undefined
}

export function createQueue<E> (): Queue<E> {
  return { oldest: undefined, newest: undefined, length: 0 }
}

/** The entry becomes the newest. */
export function join<E extends Queued<E>> (queue: Queue<E>, entry: E): void {
  entry.older = queue.newest
  if (queue.newest === undefined) queue.oldest = entry
  else queue.newest.newer = entry
  queue.newest = entry
  queue.length++
}

export function leave<E extends Queued<E>> (queue: Queue<E>, { older, newer }: E): void {
  if (older === undefined) queue.oldest = newer
  else older.newer = newer
  if (newer === undefined) queue.newest = older
  else newer.older = older
  queue.length--
}

export function empty (queue: Queue<unknown>): void {
  Object.assign(queue, createQueue())
}
