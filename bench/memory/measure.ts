import { heapInUse } from './heap.ts'
import type { Filling } from './maps.ts'

/** How much more a full map may need after all its entries were replaced: a part of what it needs, and in bytes. */
const GROWTH = { share: 0.05, bytes: 200_000 }

/** A Map of V8 doubles its table once when it has been full for a while, so each map is filled twice. */
const TURNOVERS = 2

/** Fills one map after the other, and prints a row for each. Returns whether all have stayed as large as they were. */
export async function measureMaps (maps: readonly Filling[]): Promise<boolean> {
  // Every new entry comes into a full cache, where else only some do.
  const { random } = Math
  Math.random = () => 0
  console.log(row(['in memory', 'bound', 'bytes an entry', 'empty', 'full', 'after another turnover']))
  console.log(row(Array(6).fill('---')))
  let areFlat = true
  const begin = await heapInUse()
  for (const { name, bound, add } of maps) {
    const before = await heapInUse()
    for (let count = 0; count < TURNOVERS * bound; count++) await add()
    const full = await heapInUse()
    for (let count = 0; count < bound; count++) await add()
    const after = await heapInUse()
    const isFlat = after - full < (full - before) * GROWTH.share + GROWTH.bytes
    areFlat &&= isFlat
    const bytes = Math.round((full - before) / bound)
    const cells = [bytes.toLocaleString('en'), ...[before, full, after].map(megabytes)]
    console.log(row([name, bound.toLocaleString('en'), ...cells]) + (isFlat ? '' : ' IT HAS GROWN'))
  }
  Math.random = random
  console.log(row(['all together', '', '', ...[begin, await heapInUse()].map(megabytes), '']))
  return areFlat
}

function row (cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

function megabytes (bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`
}
