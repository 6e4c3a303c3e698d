import type { Measured } from './measure.ts'
import type { Noted } from './ledger.ts'

export const COLUMNS = ['fault', 'what users get meanwhile', 'invariant, checked how often', 'recovered after']

/** The table in Markdown. */
export function header (): string {
  return [row(COLUMNS), row(COLUMNS.map(() => '---'))].join('\n')
}

export function rowOf (measured: Measured): string {
  const { title, meanwhile, all, recovered } = measured
  const ended = all.filter(({ what }) => what === 'ended sessions').length
  return row([
    title,
    describe(meanwhile),
    `own page or 503: ${all.length - ended}; ended stays ended: ${ended}`,
    recoveryOf(measured, recovered)
  ])
}

/** What must never happen, and how often it did. */
export function wrongsOf ({ title, all, recovered }: Measured): string[] {
  const lines = all.filter(({ verdict }) => verdict === 'wrong').map(({ what, shown }) => `${title}: ${what}: ${shown}`)
  const counted = [...new Set(lines)].map((line) => `${line} (${lines.filter((other) => other === line).length} times)`)
  return recovered === undefined ? [...counted, `${title}: it has not recovered within a minute`] : counted
}

function row (cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

/** `pages 200 (54), 503 (6); logins 503 (20); slowest 3.0 s` */
function describe (answers: readonly Noted[]): string {
  const kinds = [...new Set(answers.map(({ what }) => what))].filter((what) => what !== 'ended sessions')
  const parts = kinds.map((kind) => `${kind} ${statuses(answers.filter(({ what }) => what === kind))}`)
  const slowest = Math.max(...answers.map(({ sentAt, answeredAt }) => answeredAt - sentAt))
  return [...parts, `slowest ${seconds(slowest)}`].join('; ')
}

function statuses (answers: readonly Noted[]): string {
  const all = answers.map(({ shown }) => shown)
  return [...new Set(all)].sort().map((shown) => `${shown} (${all.filter((other) => other === shown).length})`).join(', ')
}

function recoveryOf ({ all, meanwhile }: Measured, recovered: number | undefined): string {
  if (recovered === undefined) return 'not within a minute'
  const isUnharmed = [...all, ...meanwhile].every(({ verdict }) => verdict === 'good')
  return isUnharmed ? 'no request failed' : seconds(recovered)
}

function seconds (milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`
}
