import { table } from '../table.ts'
import { NEVER } from './ledger.ts'
import type { ProcessReport } from './app.ts'
import type { Ledger } from './ledger.ts'
import type { ProviderReport } from './provider.ts'

export interface Outcome {
  ledger: Ledger
  /** Seconds of measured load. */
  seconds: number
  /** Seconds until logins worked in all processes, after the provider was unreachable at their start. */
  recovery: number
  outages: number
  provider: ProviderReport
  /** The reports of each process of the application: before, in the middle of, and after the load. */
  processes: ProcessReport[][]
}

/** Returns the table, followed by what was wrong. */
export function report (outcome: Outcome): string {
  const sections = [traffic(outcome), refusals(outcome), provider(outcome), processes(outcome), never(outcome)]
  return [table(sections.flatMap((rows) => [...rows, []])), ...examples(outcome), details(outcome)].join('\n')
}

function traffic ({ ledger, seconds }: Outcome): string[][] {
  const requests = ledger.get('requests')
  return [
    ['requests', whole(requests)],
    ['requests/s', whole(requests / seconds)],
    ...[
      'hostile requests', 'anonymous requests', 'logins started', 'logins completed',
      'logins refused while the provider failed', 'logins left open', 'logouts'
    ].map((name) => [name, whole(ledger.get(name))])
  ]
}

function refusals ({ ledger }: Outcome): string[][] {
  return ledger.startingWith('refused ').map(([code, count]) => [`refused: ${code}`, whole(count)])
}

function provider ({ provider: { rotations, counts }, outages, recovery }: Outcome): string[][] {
  const { metadata = 0, jwks = 0, ...others } = counts
  return [
    ['key rotations', whole(rotations)],
    ['key-set fetches', whole(jwks)],
    ['discovery fetches', whole(metadata)],
    ...Object.entries(others).sort().map(([name, count]) => [`provider: ${name}`, whole(count)]),
    ['outages of the provider', whole(outages)],
    ['recovery after the provider was unreachable at the start, s', recovery.toFixed(1)]
  ]
}

function processes ({ processes }: Outcome): string[][] {
  const column = (name: string, value: (report: ProcessReport) => number, digits: number): string[][] =>
    processes.map((reports, index) => [
      `${name}, application ${index + 1}`,
      ...reports.map((report) => value(report).toFixed(digits))
    ])
  return [
    ['', 'start', 'middle', 'end'],
    ...column('heap, MiB', ({ heap }) => heap / 2 ** 20, 1),
    ...column('resident, MiB', ({ rss }) => rss / 2 ** 20, 0),
    ...column('event-loop delay p99, ms', ({ delayP99 }) => delayP99, 1)
  ]
}

function never ({ ledger: { wrongs } }: Outcome): string[][] {
  return NEVER.map((kind) => [`must be 0: ${kind}`, whole(wrongs.get(kind)?.count ?? 0)])
}

function examples ({ ledger: { wrongs } }: Outcome): string[] {
  return [...wrongs].flatMap(([kind, { examples }]) => [`${kind}:`, ...examples.map((example) => `  ${example}`), ''])
}

/** Why logins and sessions were refused, as in the log of the application. */
function details ({ processes }: Outcome): string {
  const counts = new Map<string, number>()
  for (const [line, count] of processes.flat().flatMap(({ refusals }) => Object.entries(refusals))) {
    counts.set(line, (counts.get(line) ?? 0) + count)
  }
  const lines = [...counts]
    .filter(([line]) => /^FST_OIDC_(?:PROVIDER|ID_TOKEN|CODE|UNEXPECTED|USERINFO|CLAIMS|RESPONSE|SESSION)/.test(line))
    .sort((a, b) => b[1] - a[1])
  return [
    'refusals in the logs of the applications, including the warm-up:',
    ...lines.slice(0, 20).map(([line, count]) => `  ${count} ${line}`)
  ].join('\n')
}

function whole (value: number): string {
  return Math.round(value).toLocaleString('en')
}
