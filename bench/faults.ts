import { parseArgs } from 'node:util'
import { FAULTS } from './faults/all.ts'
import { measure } from './faults/measure.ts'
import { header, rowOf, wrongsOf } from './faults/report.ts'

/**
 * Causes real faults: of stores, of the provider, of the application. Users with sessions work meanwhile, over HTTP, in
 * a process of an application. Prints a table in Markdown: what the users got, how often it was checked that this was
 * the own page or 503 and that no logout was forgotten, and how long it took to recover.
 * `faults [--only name,name] [--seconds 6]` exits with 1 when something happened that must never happen.
 */

const { values: { only, seconds } } = parseArgs({
  options: { only: { type: 'string' }, seconds: { type: 'string', default: '6' } }
})
const names = only?.split(',')
const unknown = names?.filter((name) => !FAULTS.some((fault) => fault.name === name)) ?? []
if (unknown.length > 0) throw new Error(`there is no fault ${unknown.join(', ')}`)
const chosen = FAULTS.filter(({ name }) => names?.includes(name) ?? true)
const possible = chosen.filter(({ skip }) => skip === false)
const wrongs: string[] = []

console.log(header())
for (const fault of possible) {
  const measured = await measure(fault, Number(seconds))
  console.log(rowOf(measured))
  wrongs.push(...wrongsOf(measured))
}
const skipped = chosen.filter(({ skip }) => skip !== false)
if (skipped.length > 0) console.log(`\nskipped: ${skipped.map(({ name, skip }) => `${name} (${skip as string})`).join(', ')}`)
console.log(`\nNode.js ${process.version}, ${new Date().toISOString().slice(0, 10)}`)
for (const wrong of wrongs) console.log(wrong)
process.exit(wrongs.length > 0 ? 1 : 0)
