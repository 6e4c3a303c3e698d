import { checkDuties } from './duties.ts'
import { isOpen } from './module.ts'
import { createWorld } from './party.ts'
import type { Module, RunModule } from './module.ts'

export interface Outcome {
  module: Module
  verdict: 'passed' | 'failed' | 'open'
  /** What happened, or why the module does not run. */
  happened: string
  error?: unknown
}

/** Runs a module with its own provider and relying party, then checks the duties that all modules have. */
export async function runModule (module: Module): Promise<Outcome> {
  if (isOpen(module)) return { module, verdict: 'open', happened: `missing: ${module.open}` }
  try {
    return { module, verdict: 'passed', happened: await runIsolated(module) }
  } catch (error) {
    const happened = (error instanceof Error ? error.message : String(error)).split('\n', 1)[0] as string
    return { module, verdict: 'failed', happened, error }
  }
}

async function runIsolated (module: RunModule): Promise<string> {
  const world = createWorld()
  try {
    const happened = await module.run(world.start)
    if (world.parties.length === 0) throw new Error('the module started nothing')
    world.parties.forEach(checkDuties)
    return happened
  } finally {
    await world.close()
  }
}
