import { setTimeout as sleep } from 'node:timers/promises'
import { createLedger } from './ledger.ts'
import { createWorld } from './world.ts'
import type { Teardown } from '../../test/support/app.ts'
import type { Fault } from './fault.ts'
import type { Noted } from './ledger.ts'

/** What one fault did. */
export interface Measured {
  title: string
  /** The answers to requests that were sent while the fault lasted. */
  meanwhile: Noted[]
  /** All answers, from before the fault until all was good again. */
  all: Noted[]
  /** Milliseconds; `undefined`: not within a minute. */
  recovered: number | undefined
}

/** For how long no request may fail until all is good again, in milliseconds; a shorter fault takes as long. */
const SETTLED = 2000
const PATIENCE = 60_000 // milliseconds

/** Causes the fault for so many seconds, while users work. */
export async function measure (fault: Fault, seconds: number): Promise<Measured> {
  const { t, end } = createTeardown()
  try {
    return await run(t, fault, seconds)
  } finally {
    await end()
  }
}

async function run (t: Teardown, fault: Fault, seconds: number): Promise<Measured> {
  const cause = await fault.prepare(t)
  const ledger = createLedger(Math.min(SETTLED, seconds * 1000))
  const world = await createWorld(t, fault, cause, ledger)
  const began = performance.now()
  await world.startTraffic()
  await waitFor(() => ledger.goodAgainAt(began))

  const from = performance.now()
  await cause.begin(world)
  world.startLogouts()
  let since = from
  if (cause.end !== undefined) {
    await sleep(seconds * 1000)
    await cause.end(world)
    since = performance.now()
  }
  const goodAt = await waitFor(() => ledger.goodAgainAt(since))
  world.stop()
  return {
    title: fault.title,
    meanwhile: ledger.between(from, cause.end === undefined ? goodAt ?? Infinity : since),
    all: ledger.between(0, Infinity),
    recovered: goodAt === undefined ? undefined : goodAt - since
  }
}

async function waitFor (find: () => number | undefined): Promise<number | undefined> {
  for (const end = performance.now() + PATIENCE; performance.now() < end; await sleep(50)) {
    const found = find()
    if (found !== undefined) return found
  }
  return undefined
}

/** What tests do with tap: what was started last ends first. */
function createTeardown (): { t: Teardown, end: () => Promise<void> } {
  const handlers: Array<() => unknown> = []
  return {
    t: { teardown: (handler) => { handlers.unshift(handler) } },
    async end () {
      for (const handler of handlers) await handler()
    }
  }
}
