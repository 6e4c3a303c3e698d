import { titleOf } from './module.ts'
import { modules } from './modules.ts'
import { runModule } from './run.ts'
import type { Outcome } from './run.ts'

// Runs every module and prints what happened: npm run conformance

const HEAD = ['module', 'the provider', 'required', 'happened', 'verdict']

// The plan is printed above the table, so a variant that is the plan is left out.
function rowOf ({ module, verdict, happened }: Outcome): string[] {
  const { variant, ...rest } = module
  return [titleOf(variant === module.plan ? rest : module), module.provider, module.required, happened, verdict]
}

function printTable (rows: string[][]): void {
  const widths = HEAD.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  for (const row of rows) console.log(row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ').trimEnd())
}

function printPlan (plan: string, outcomes: Outcome[]): void {
  console.log(`\n${plan}`)
  printTable([HEAD, ...outcomes.map(rowOf)])
}

const outcomes: Outcome[] = []
for (const module of modules) outcomes.push(await runModule(module))

for (const plan of new Set(modules.map((module) => module.plan))) {
  printPlan(plan, outcomes.filter(({ module }) => module.plan === plan))
}

for (const { module, error } of outcomes) {
  if (error !== undefined) console.error(`\n${titleOf(module)}\n`, error)
}

const count = (verdict: Outcome['verdict']): number => outcomes.filter((outcome) => outcome.verdict === verdict).length
console.log(`\n${count('passed')} passed, ${count('failed')} failed, ${count('open')} open`)
process.exitCode = count('failed') > 0 ? 1 : 0
