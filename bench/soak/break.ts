import { setTimeout as sleep } from 'node:timers/promises'
import { LIMIT } from './panel.ts'
import type { Fault } from './faults.ts'
import type { Panel } from './panel.ts'
import type { World } from './world.ts'

/** How long it took from the end of faults until everything worked again, in milliseconds, by the name of the fault. */
export type Recoveries = Map<string, number[]>

export interface Breaking {
  /** Runs one fault after the other, each after a pause, until the traffic is over. */
  run: (world: World) => Promise<void>
  recoveries: Recoveries
}

export function createBreaking (faults: Fault[], panel: Panel, calm: number): Breaking {
  const recoveries: Recoveries = new Map()
  let next = 0

  async function runOne (world: World, fault: Fault): Promise<void> {
    const { ledger, timeline } = world
    const over = timeline.begin(fault)
    await fault.begin()
    await sleep(fault.lasts)
    const from = performance.now()
    await fault.end()
    await (fault.probe === 'login' ? panel.untilLoginsWork() : panel.untilSessionsCount())
    const took = performance.now() - from
    over()
    recoveries.set(fault.name, [...recoveries.get(fault.name) ?? [], took])
    ledger.check('faults without a recovery', took < LIMIT, () => `${fault.name}: ${Math.round(took)} ms`)
    await panel.check()
  }

  return {
    recoveries,
    async run (world) {
      while (!world.isOver()) {
        await sleep(calm * 1000)
        if (world.isOver()) return
        await runOne(world, faults[next % faults.length] as Fault)
        next += 1
      }
    }
  }
}
