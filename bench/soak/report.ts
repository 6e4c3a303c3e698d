import { table } from '../table.ts'
import { NEVER } from './ledger.ts'
import type { ProcessReport } from './app.ts'
import type { Outcome } from './run.ts'

/** Returns the tables of a run, followed by what was wrong. */
export function report (outcome: Outcome): string {
  const sections = [traffic, refusals, provider, processes, recoveries, never]
  return [...sections.map((rowsOf) => `${table(rowsOf(outcome))}\n`), ...examples(outcome), details(outcome)].join('\n')
}

function traffic ({ ledger, seconds }: Outcome): string[][] {
  const requests = ledger.get('requests')
  return [
    ['requests', whole(requests)],
    ['requests/s', whole(requests / seconds)],
    ...ledger.startingWith('')
      .filter(([name]) => name !== 'requests' && !name.startsWith('refused '))
      .map(([name, count]) => [name, whole(count)])
  ]
}

function refusals ({ ledger }: Outcome): string[][] {
  return ledger.startingWith('refused ').map(([code, count]) => [`refused: ${code}`, whole(count)])
}

function provider ({ provider: { rotations, counts } }: Outcome): string[][] {
  const { metadata = 0, jwks = 0, ...others } = counts
  return [
    ['key rotations', whole(rotations)],
    ['key-set fetches', whole(jwks)],
    ['discovery fetches', whole(metadata)],
    ...Object.entries(others).sort().map(([name, count]) => [`provider: ${name}`, whole(count)])
  ]
}

function processes ({ processes }: Outcome): string[][] {
  const column = (name: string, value: (report: ProcessReport) => number, digits: number): string[][] =>
    processes.map((reports, index) => [
      `${name}, process ${index + 1}`,
      ...reports.map((report) => value(report).toFixed(digits))
    ])
  return [
    ['', 'start', 'middle', 'end'],
    ...column('heap, MiB', ({ heap }) => heap / 2 ** 20, 1),
    ...column('resident, MiB', ({ rss }) => rss / 2 ** 20, 0),
    ...column('event-loop delay p99, ms', ({ delayP99 }) => delayP99, 1)
  ]
}

function recoveries ({ recoveries }: Outcome): string[][] {
  return [
    ['recovery in seconds after the end of', 'times', 'median', 'longest'],
    ...[...recoveries].sort(([a], [b]) => a.localeCompare(b)).map(([name, times]) => {
      const sorted = [...times].sort((a, b) => a - b)
      const [median, longest] = [sorted[Math.floor((sorted.length - 1) / 2)], sorted.at(-1)] as [number, number]
      return [name, whole(times.length), seconds(median), seconds(longest)]
    })
  ]
}

function never ({ ledger }: Outcome): string[][] {
  return [
    ['must be 0', 'wrong', 'checked'],
    ...NEVER.map((kind) => {
      const { wrong, times } = ledger.checked(kind)
      return [kind, whole(wrong), whole(times)]
    })
  ]
}

function examples ({ ledger }: Outcome): string[] {
  return NEVER.flatMap((kind) => {
    const { examples } = ledger.checked(kind)
    return examples.length === 0 ? [] : [`${kind}:`, ...examples.map((example) => `  ${example}`), '']
  })
}

/** Why logins and sessions were refused, as in the log of the application. */
function details ({ processes }: Outcome): string {
  const counts = new Map<string, number>()
  for (const [line, count] of processes.flat().flatMap(({ refusals }) => Object.entries(refusals))) {
    counts.set(line, (counts.get(line) ?? 0) + count)
  }
  const lines = [...counts]
    .filter(([line]) => /^FST_OIDC_(?:PROVIDER|ID_TOKEN|CODE|UNEXPECTED|USERINFO|CLAIMS|RESPONSE|SESSION|STORE|LOGIN_LOST)/.test(line))
    .sort((a, b) => b[1] - a[1])
  return [
    'refusals in the logs of the applications, including the warm-up:',
    ...lines.slice(0, 20).map(([line, count]) => `  ${count} ${line}`)
  ].join('\n')
}

function seconds (milliseconds: number): string {
  return (milliseconds / 1000).toFixed(1)
}

function whole (value: number): string {
  return Math.round(value).toLocaleString('en')
}
