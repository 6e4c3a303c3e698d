import { figure, ratios, type Figure } from './figures.ts'
import type { RelyingParty } from './login-cost.ts'
import type { Result } from './requests.ts'
import type { Start } from './start.ts'
import { table } from './table.ts'

export type Letter = 'a' | 'b' | 'c' | 'd' | 'e'

export interface Results {
  requests: Record<Letter, Result>
  logins: Record<RelyingParty, number[]>
  start: Start
}

const titles: Record<Letter, string> = {
  a: 'a  bare Fastify, only Host',
  b: 'b  bare Fastify, cookie ignored',
  c: 'c  plugin, public route',
  d: 'd  plugin, required(), 100 clients',
  e: 'e  plugin, required(), new clients'
}

/** The least share of the other case's requests per second. */
const targets: Partial<Record<Letter, Partial<Record<'a' | 'b', number>>>> = {
  c: { b: 0.97 },
  d: { a: 0.70, b: 0.88 },
  e: { b: 0.55 }
}

const loginTarget = 1.15

/** Everything that was measured, as one table with three parts. */
export function report (results: Results): string {
  return table([
    ['requests', 'req/s', 'min..max', '× a', '× b', 'CPU µs/req', 'min..max', '× a', '× b', 'target (req/s)'],
    ...(Object.keys(titles) as Letter[]).map(letter => requestRow(letter, results.requests)),
    [],
    ['logins', '', '', '', '', 'CPU µs/login', 'min..max', '× hand', '', 'target'],
    ...loginRows(results.logins),
    [],
    ['start', 'import ms', 'min..max', '× libs', '', 'RSS MB', 'heap MB', '', '', ''],
    ...startRows(results.start)
  ])
}

function requestRow (letter: Letter, requests: Results['requests']): string[] {
  const to = (base: 'a' | 'b', key: 'rate' | 'cpu') => ratios(requests[letter][key], requests[base][key]).median
  const rate = figure(requests[letter].rate)
  const cpu = figure(requests[letter].cpu)
  const shares = { a: to('a', 'rate'), b: to('b', 'rate') }
  return [
    titles[letter],
    whole(rate.median), range(rate), ratio(shares.a), ratio(shares.b),
    cpu.median.toFixed(1), range(cpu, 1), ratio(to('a', 'cpu')), ratio(to('b', 'cpu')),
    verdict(targets[letter] ?? {}, shares)
  ]
}

function verdict (least: Partial<Record<'a' | 'b', number>>, shares: Record<'a' | 'b', number>): string {
  return (['b', 'a'] as const).flatMap(base => {
    const target = least[base]
    return target === undefined ? [] : [`≥ ${target.toFixed(2)} ${base} ${mark(shares[base] >= target)}`]
  }).join(', ')
}

function loginRows (logins: Results['logins']): string[][] {
  const share = ratios(logins.plugin, logins['by-hand']).median
  const row = (title: string, values: number[]) => {
    const cost = figure(values)
    return [title, '', '', '', '', whole(cost.median), range(cost)]
  }
  return [
    row('f  by hand on openid-client', logins['by-hand']),
    [...row('f  plugin', logins.plugin), ratio(share), '', `≤ ${loginTarget.toFixed(2)} ${mark(share <= loginTarget)}`]
  ]
}

function startRows ({ imports, memory }: Start): string[][] {
  const time = (values: number[]) => {
    const cost = figure(values)
    return [whole(cost.median), range(cost), ratio(ratios(values, imports.libraries).median)]
  }
  const size = ({ rss, heapUsed }: Start['memory']['bare']) => ['', megabytes(rss), megabytes(heapUsed)]
  return [
    ['g  bare Fastify', '', '', '', ...size(memory.bare)],
    ['g  the libraries alone', ...time(imports.libraries)],
    ['g  plugin', ...time(imports.plugin), ...size(memory.plugin)]
  ]
}

function mark (met: boolean): string {
  return met ? 'met' : 'MISSED'
}

function whole (value: number): string {
  return Math.round(value).toLocaleString('en')
}

function ratio (value: number): string {
  return value.toFixed(2)
}

function range ({ min, max }: Figure, digits = 0): string {
  const text = (value: number) => digits === 0 ? whole(value) : value.toFixed(digits)
  return `${text(min)}..${text(max)}`
}

function megabytes ({ median }: Figure): string {
  return (median / 2 ** 20).toFixed(1)
}
