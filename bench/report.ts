import { figure, ratios, type Figure } from './figures.ts'
import type { RelyingParty } from './login-cost.ts'
import type { Result } from './requests.ts'
import type { Imported, Start } from './start.ts'
import { table } from './table.ts'

export type Letter = 'a' | 'b' | 'c' | 'd' | 'e' | 'h' | 'i' | 'j' | 'n' | 'o' | 'p' | 'q' | 'r' | 's' | 't'

export interface Results {
  /** (h) to (j) only when Redis is available. */
  requests: { [Each in Letter]?: Result } & Record<'a' | 'b' | 'q', Result>
  logins: Record<RelyingParty, number[]>
  start: Start
}

type Base = 'a' | 'b' | 'q'

const titles: Record<Letter, string> = {
  a: 'a  bare Fastify, only Host',
  b: 'b  bare Fastify, cookie ignored',
  c: 'c  plugin, public route',
  d: 'd  plugin, required(), 100 clients',
  e: 'e  plugin, required(), new clients',
  t: 't  plugin, required(), 6,000 clients in turn',
  h: 'h  bare Fastify, cookie of (i) ignored',
  i: 'i  plugin, required(), session in Redis',
  j: 'j  the same, recheckAfter 1 s',
  n: 'n  bare Fastify, access token ignored',
  o: 'o  plugin, required(), 100 access tokens',
  p: 'p  plugin, required(), new access tokens',
  q: 'q  jose.jwtVerify by hand, new access tokens',
  r: 'r  @fastify/jwt with its cache, 100 access tokens',
  s: 's  fastify-jwt-jwks, 100 access tokens'
}

/** The case without the plugin that gets the same headers. */
const baseOf = (letter: Letter, requests: Results['requests']): Result =>
  ('hij'.includes(letter) ? requests.h : 'nopqrs'.includes(letter) ? requests.n : undefined) ?? requests.b

/** The target: at least this share of the requests per second of the other case. `b`: the case with equal headers. */
const targets: Partial<Record<Letter, Partial<Record<Base, number>>>> = {
  c: { b: 0.97 },
  d: { a: 0.70, b: 0.88 },
  e: { b: 0.55 },
  i: { b: 0.45 },
  j: { b: 0.80 },
  o: { b: 0.92 },
  p: { q: 1 / 1.3 }
}

const loginTarget = 1.15
/** Of the libraries: the time, and the memory beyond theirs. */
const importTarget = { share: 1.15, bytes: 4 * 2 ** 20 }

/** Returns all results as one table with three parts. */
export function report (results: Results): string {
  return table([
    ['requests', 'req/s', 'min..max', '× a', '× b', 'CPU µs/req', 'min..max', '× a', '× b', 'target (req/s)'],
    ...(Object.keys(titles) as Letter[]).flatMap(letter => requestRow(letter, results.requests)),
    [],
    ['logins', '', '', '', '', 'CPU µs/login', 'min..max', '× hand', '', 'target'],
    ...loginRows(results.logins),
    [],
    ['start', 'import ms', 'min..max', '× libs', '', 'RSS MB', 'heap MB', '', '', ''],
    ...startRows(results.start)
  ])
}

function requestRow (letter: Letter, requests: Results['requests']): string[][] {
  const result = requests[letter]
  if (result === undefined) return []
  const bases = { a: requests.a, b: baseOf(letter, requests), q: requests.q }
  const to = (base: Base, key: 'rate' | 'cpu') => ratios(result[key], bases[base][key]).median
  const rate = figure(result.rate)
  const cpu = figure(result.cpu)
  const shares = { a: to('a', 'rate'), b: to('b', 'rate'), q: to('q', 'rate') }
  return [[
    titles[letter],
    whole(rate.median), range(rate), ratio(shares.a), ratio(shares.b),
    cpu.median.toFixed(1), range(cpu, 1), ratio(to('a', 'cpu')), ratio(to('b', 'cpu')),
    verdict(targets[letter] ?? {}, shares)
  ]]
}

function verdict (least: Partial<Record<Base, number>>, shares: Record<Base, number>): string {
  return (['b', 'a', 'q'] as const).flatMap(base => {
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

function startRows ({ imports: { libraries, plugin }, memory }: Start): string[][] {
  const share = ratios(plugin.time, libraries.time).median
  const more = figure(plugin.rss).median - figure(libraries.rss).median
  const row = (title: string, { time, rss }: Imported, target = '') => {
    const cost = figure(time)
    const times = ratio(ratios(time, libraries.time).median)
    return [title, whole(cost.median), range(cost), times, '', megabytes(figure(rss)), '', '', '', target]
  }
  const size = ({ rss, heapUsed }: Start['memory']['bare']) => ['', '', '', '', megabytes(rss), megabytes(heapUsed)]
  const met = share <= importTarget.share && more <= importTarget.bytes
  return [
    row('g  import of the libraries', libraries),
    row('g  import of the plugin', plugin, `≤ ${importTarget.share}, + ${importTarget.bytes / 2 ** 20} MB ${mark(met)}`),
    ['g  server of bare Fastify', ...size(memory.bare)],
    ['g  server with the plugin', ...size(memory.plugin)]
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
