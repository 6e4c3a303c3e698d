/** Many at once. */

/** Runs the jobs, at most `width` at a time. */
export async function inParallel<T> (width: number, jobs: Array<() => Promise<T>>): Promise<T[]> {
  const results: T[] = []
  const entries = jobs.entries()
  await Promise.all(Array.from({ length: width }, async () => {
    for (const [index, job] of entries) results[index] = await job()
  }))
  return results
}

export function times<T> (count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index))
}
