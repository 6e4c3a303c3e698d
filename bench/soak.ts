import { report } from './soak/report.ts'
import { run } from './soak/run.ts'
import { readSettings } from './soak/settings.ts'
import { STORES } from './soak/stores.ts'
import type { StoreKind } from './soak/stores.ts'

/**
 * Runs the plugin under mixed traffic, with one store after the other: providers that rotate their keys and have
 * outages, processes of an application that are killed and whose clocks step, stores that fail; users, tenants,
 * programs, anonymous requests and attackers. Exits with 1 when something happened that must never happen.
 *
 * `soak [seconds] [--store name]... [--quick] [--requests number]`
 */

const settings = readSettings(process.argv.slice(2))

// Else the servers that it has started would go on.
process.on('SIGINT', () => process.exit(1))
/** `kill` ends the load early: the report then tells of what there was. */
const ending = new AbortController()
process.on('SIGTERM', () => ending.abort())

const stores = await reachable(chosen(settings.stores))
const maxRequests = settings.maxRequests / stores.length

for (const [name, kind] of stores) {
  if (ending.signal.aborted) break
  const outcome = await run(kind, { ...settings, maxRequests }, ending.signal)
  console.log(`--- store: ${name}\n\n${report(outcome)}\n`)
  if (outcome.ledger.isBroken()) process.exitCode = 1
}

async function reachable (stores: Array<[string, StoreKind]>): Promise<Array<[string, StoreKind]>> {
  const reasons = await Promise.all(stores.map(async ([, { skip }]) => await skip()))
  for (const [index, reason] of reasons.entries()) {
    if (reason !== undefined) console.log(`--- store: ${stores[index]?.[0]}: skipped, ${reason}\n`)
  }
  return stores.filter((_, index) => reasons[index] === undefined)
}

function chosen (names: string[] = Object.keys(STORES)): Array<[string, StoreKind]> {
  return names.map((name) => {
    const kind = STORES[name]
    if (kind === undefined) throw new Error(`the store must be one of ${Object.keys(STORES).join(', ')}, not "${name}"`)
    return [name, kind]
  })
}
