import { setTimeout as sleep } from 'node:timers/promises'
import { HOST } from './world.ts'
import type { Fault } from './faults.ts'
import type { AppProcess } from './processes.ts'
import type { World } from './world.ts'

/** How long a page may take that needs neither the store nor the provider, in milliseconds. */
const LATE = 1000
const PAUSE = 250 // milliseconds

/** On a computer that is too busy, calls run out of time: that is no fault of the application. */
const TOO_BUSY: Pick<Fault, 'name' | 'excuses' | 'lingers'> = {
  name: 'this computer is too busy',
  excuses: ['login', 'token', 'userinfo', 'store'],
  lingers: 5000
}

/** Watches whether each process answers in time. */
export async function watchPace (world: World): Promise<void> {
  await Promise.all(world.entrances.flatMap(({ processes }) => processes.map(async (process) => {
    while (!world.isOver()) {
      await probe(world, process)
      await sleep(PAUSE)
    }
  })))
}

async function probe ({ timeline, ledger }: World, { send }: AppProcess): Promise<void> {
  let over = (): void => {}
  const from = Date.now()
  const late = setTimeout(() => { over = timeline.begin(TOO_BUSY) }, LATE)
  await send({ method: 'GET', url: '/', headers: { host: HOST, accept: '*/*' } }).catch(() => {})
  clearTimeout(late)
  over()
  const took = Date.now() - from
  if (took > LATE) ledger.count('seconds in which this computer was too busy', took / 1000)
}
