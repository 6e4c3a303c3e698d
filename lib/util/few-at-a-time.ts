/**
 * Does the work for each item, at most `limit` at a time, and waits for all of it. The first failure stops the others
 * before their next item, and is thrown.
 *
 * @param items - an iterator, because several loops share it
 */
export async function fewAtATime<T> (
  items: AsyncIterableIterator<T> | IterableIterator<T>,
  limit: number,
  work: (item: T) => Promise<void>
): Promise<void> {
  const loop = async (): Promise<void> => {
    for await (const item of items) await work(item)
  }
  const results = await Promise.allSettled(Array.from({ length: limit }, loop))
  const failure = results.find(({ status }) => status === 'rejected') as PromiseRejectedResult | undefined
  if (failure !== undefined) throw failure.reason
}
