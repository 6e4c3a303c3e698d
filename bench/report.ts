import { atLeast, atMost, figure, ratios, type Figure } from './figures.ts'
import { fixed, spread } from './table.ts'
import type { Letter, Row } from './cases.ts'
import type { Result } from './requests.ts'
import type { Imported, Start } from './start.ts'

const LOGIN_GOAL = 1.15
/** Of the libraries: the time, and the memory beyond theirs. */
const IMPORT_GOAL = { share: 1.15, bytes: 4 * 2 ** 20 }

/** One row for each case: the rate and the CPU time, each beside the row that gets the same headers. */
export function requestRows (rows: Row[], results: Result[]): string[][] {
  const measured = new Map(rows.map(({ letter }, at) => [letter, results[at] as Result]))
  return [
    ['requests', 'req/s', 'CPU µs/req', 'against', '× req/s', '× CPU', 'goal (req/s)'],
    ...rows.map(({ letter, title, base, goals }) => {
      const own = measured.get(letter) as Result
      const other = measured.get(base) as Result
      return [
        title,
        fixed(figure(own.rate).median),
        spread(figure(own.cpu), 1),
        ...letter === base ? ['', '', ''] : [base, spread(ratios(own.rate, other.rate)), spread(ratios(own.cpu, other.cpu))],
        goalsOf(goals, own, measured)
      ]
    })
  ]
}

function goalsOf (goals: Row['goals'], own: Result, measured: Map<Letter, Result>): string {
  return (Object.entries(goals) as Array<[Letter, number]>).map(([letter, goal]) => {
    const share = ratios(own.rate, (measured.get(letter) as Result).rate)
    return `≥ ${goal.toFixed(2)} ${letter} ${atLeast(goal, share)}`
  }).join(', ')
}

export function loginRows (byHand: number[], plugin: number[]): string[][] {
  const share = ratios(plugin, byHand)
  return [
    ['logins', '', 'CPU µs/login', 'against', '', '× CPU', 'goal (CPU)'],
    ['f  by hand on openid-client', '', spread(figure(byHand), 0)],
    ['f  plugin', '', spread(figure(plugin), 0), 'by hand', '', spread(share), `≤ ${LOGIN_GOAL} ${atMost(LOGIN_GOAL, share)}`]
  ]
}

export function startRows ({ imports: { libraries, plugin }, memory }: Start): string[][] {
  const more = figure(plugin.rss).median - figure(libraries.rss).median
  const imported = ({ time, rss }: Imported): string[] =>
    [spread(figure(time), 0), spread(ratios(time, libraries.time)), megabytes(figure(rss))]
  const size = ({ rss, heapUsed }: Start['memory']['bare']): string[] => ['', '', megabytes(rss), megabytes(heapUsed)]
  const isSmall = more <= IMPORT_GOAL.bytes ? 'met' : 'not met'
  return [
    ['start', 'import ms', '× libraries', 'RSS MB', 'heap MB', 'goal'],
    ['g  the libraries alone', ...imported(libraries)],
    ['g  plugin', ...imported(plugin), '', `≤ ${IMPORT_GOAL.share} ${atMost(IMPORT_GOAL.share, ratios(plugin.time, libraries.time))}, ` +
      `RSS ≤ + ${IMPORT_GOAL.bytes / 2 ** 20} MB ${isSmall}`],
    ['g  server of bare Fastify', ...size(memory.bare)],
    ['g  server with the plugin', ...size(memory.plugin)]
  ]
}

/** What two checkouts cost, row by row. Each pair is of the same rounds. */
export interface Pair {
  title: string
  /** Requests per second; logins have none. */
  rate?: [own: number[], other: number[]]
  /** CPU time per request or login, in microseconds. */
  cpu: [own: number[], other: number[]]
}

export function comparison (pairs: Pair[]): string[][] {
  return [
    ['this checkout against the other', 'req/s', 'other', '× req/s', 'CPU µs', 'other', '× CPU', ''],
    ...pairs.map(({ title, rate, cpu: [own, other] }) => {
      const rates = rate === undefined
        ? ['', '', '']
        : [fixed(figure(rate[0]).median), fixed(figure(rate[1]).median), spread(ratios(...rate))]
      const share = ratios(own, other)
      const times = [own, other].map((values) => fixed(figure(values).median, 1))
      return [title, ...rates, ...times, spread(share), change(share)]
    })
  ]
}

function change ({ low, high }: Figure): string {
  if (high < 1) return 'less'
  return low > 1 ? 'MORE' : 'no difference seen'
}

function megabytes ({ median }: Figure): string {
  return fixed(median / 2 ** 20, 1)
}
