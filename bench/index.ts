import { spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { allRows, chosenRows, type Row } from './cases.ts'
import { measureLogins, type RelyingParty } from './login-cost.ts'
import { comparison, loginRows, requestRows, startRows, type Pair } from './report.ts'
import { measureRequests, type Result } from './requests.ts'
import { wanted } from './settings.ts'
import { measureStart } from './start.ts'
import { openStage } from './stage.ts'
import { REDIS, redisAnswers, reportStores } from './stores.ts'
import { table } from './table.ts'

/**
 * `npm run bench -- [--quick] [--rows c,d,i,j] [--compare ../other-checkout]`. Rows are measured in turn, round by
 * round; each ratio is that of one round, and has the quartiles of all rounds beside it.
 */

const { settings, rows: letters, compare } = wanted(process.argv.slice(2))
const store = await redisAnswers() ? REDIS : undefined
const isWanted = (...names: string[]): boolean => letters === undefined || names.some((name) => letters.includes(name))
const rows = allRows(settings, store)

const stage = await openStage(settings, REDIS)
const output = compare === undefined ? await measure() : await compareWith(compare)
console.log(`${stage.conditions()}\n\n${output}`)
await stage.close()

async function measure (): Promise<string> {
  const { driver, provider, options } = stage
  const tables: string[][][] = []
  const chosen = chosenRows(rows, letters)
  if (chosen.length > 0) tables.push(requestRows(chosen, await resultsOf(chosen)))
  if (isWanted('f')) {
    const parties: RelyingParty[] = [{ server: 'by-hand' }, { server: 'plugin' }]
    const [byHand, plugin] = await measureLogins(driver, parties, options, settings) as [number[], number[]]
    tables.push(loginRows(byHand, plugin))
  }
  if (isWanted('g')) tables.push(startRows(await measureStart(options, settings)))
  if (isWanted('k', 'l', 'm', 'u', 'v')) tables.push(await reportStores(provider, options, store !== undefined, isWanted))
  return tables.map(table).join('\n\n')
}

/** The plugin of this checkout and that of another one, one after the other in each round, with the same sessions. */
async function compareWith (folder: string): Promise<string> {
  const plugin = buildOther(folder)
  const compared = letters ?? ['c', 'd', 'i', 'j']
  const chosen = rows.filter(({ letter, case: { server } }) => server === 'plugin' && compared.includes(letter))
  const both = chosen.flatMap((row): Row[] => [
    row, { ...row, case: { ...row.case, options: { ...row.case.options, plugin } } }
  ])
  const results = both.length > 0 ? await resultsOf(both) : []
  const pairs = chosen.map(({ title }, at): Pair => {
    const [own, other] = results.slice(2 * at, 2 * at + 2) as [Result, Result]
    return { title, rate: [own.rate, other.rate], cpu: [own.cpu, other.cpu] }
  })
  if (compared.includes('f')) {
    const parties: RelyingParty[] = [{ server: 'plugin' }, { server: 'plugin', options: { plugin } }]
    const cpu = await measureLogins(stage.driver, parties, stage.options, settings) as [number[], number[]]
    pairs.push({ title: 'f  plugin, login', cpu })
  }
  return table(comparison(pairs))
}

async function resultsOf (chosen: Row[]): Promise<Result[]> {
  const cases = chosen.map((row) => row.case)
  await stage.prepare(cases)
  const results = await measureRequests(stage.driver, cases, stage.options, settings)
  stage.note(results)
  return results
}

/** Builds the other checkout, with its own compiler. Returns the URL of its plugin. */
function buildOther (folder: string): string {
  const cwd = resolve(folder)
  const { status } = spawnSync('npm', ['run', '--silent', 'build'], { cwd, stdio: 'inherit' })
  if (status !== 0) throw new Error(`${cwd} does not build`)
  return pathToFileURL(join(cwd, 'dist/index.js')).href
}
