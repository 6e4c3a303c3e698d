import { setImmediate as nextTurn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** The bytes of the heap that are in use. */
export async function heapInUse (): Promise<number> {
  for (let count = 0; count < 5; count++) {
    collectGarbage()
    await nextTurn()
  }
  return process.memoryUsage().heapUsed
}
