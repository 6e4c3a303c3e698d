import { behaviours } from './behaviours/index.ts'
import type { BehaviourName } from './behaviours/index.ts'
import { fetchMetadata, runProvider } from './matrix.ts'
import type { Cell } from './matrix.ts'
import { providers, variableOf } from './providers.ts'

// Runs every behaviour against every provider that a variable names: npm run interop [part of a behaviour's name]

const [wanted = ''] = process.argv.slice(2)
const names = (Object.keys(behaviours) as BehaviourName[]).filter((name) => name.includes(wanted))
const chosen = providers.filter((provider) => process.env[variableOf(provider)] !== undefined)
const cells: Cell[] = []

for (const provider of chosen) {
  const issuer = process.env[variableOf(provider)] as string
  console.log(`${provider.name} at ${issuer}`)
  try {
    cells.push(...await runProvider(provider, await fetchMetadata(issuer), names, showProgress))
  } catch (error) {
    cells.push({ provider: provider.name, behaviour: 'all', verdict: 'FAILED', text: String(error), seconds: 0 })
  }
}

if (chosen.length === 0) {
  console.error(`No provider. Set one of these to its issuer: ${providers.map(variableOf).join(', ')}`)
}
console.log(`\n${matrix()}\n`)
for (const { provider, behaviour, text } of cells.filter(({ verdict }) => verdict === 'FAILED')) {
  console.log(`FAILED ${provider}, ${behaviour}: ${text}\n`)
}
console.log(`${count('ok')} ok, ${count('no')} no, ${count('FAILED')} FAILED`)
process.exitCode = chosen.length === 0 || count('FAILED') > 0 ? 1 : 0

function showProgress ({ behaviour, verdict, text, seconds }: Cell): void {
  const reason = verdict === 'no' ? `: ${text}` : ''
  console.log(`  ${verdict.padEnd(6)} ${behaviour}${reason} (${seconds.toFixed(1)} s)`)
}

function count (verdict: Cell['verdict']): number {
  return cells.filter((cell) => cell.verdict === verdict).length
}

function matrix (): string {
  const rows = [['', ...chosen.map(({ name }) => name)], ...names.map((name) => {
    return [name, ...chosen.map((provider) => cellText(provider.name, name))]
  })]
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd()).join('\n')
}

function cellText (provider: string, behaviour: string): string {
  const cell = cells.find((cell) => cell.provider === provider && cell.behaviour === behaviour)
  if (cell === undefined) return 'FAILED'
  return cell.verdict === 'no' ? `no: ${cell.text}` : cell.verdict
}
