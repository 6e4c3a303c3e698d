import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { compile } from './support/compile.ts'

t.setTimeout(480_000) // it starts six processes, where other work shares the cores

const built = compile(t, ['bench'])
const load = async <T>(name: string): Promise<T> => await import(pathToFileURL(join(built, `bench/${name}.js`)).href) as T

t.test('the bench runs', async (t) => {
  const { stdout, stderr, status } = spawnSync(process.execPath, [
    join(built, 'bench/index.js'), '--smoke', '--rows', 'c'
  ], { encoding: 'utf8', env: { PATH: process.env['PATH'] } })
  t.equal(status, 0, stderr)
  for (const row of [/^b {2}bare Fastify/m, /^c {2}plugin.*≥ 0\.97 b/m]) t.match(stdout, row)
  t.notMatch(stdout, /^[adfg] {2}/m, 'and no row that was not asked for')
})

t.test('a goal is met when the quartiles say so', async (t) => {
  const { atLeast, atMost, figure, order, ratios } = await load<typeof import('../bench/figures.ts')>('figures')
  t.same(figure([5, 1, 4, 2, 3]), { low: 2, median: 3, high: 4 })
  t.same(figure([1, 2]), { low: 1.25, median: 1.5, high: 1.75 })
  t.same(ratios([50, 20, 100], [100, 80, 100]), { low: 0.375, median: 0.5, high: 0.75 })
  const share = { low: 0.8, median: 0.9, high: 1 }
  t.same([0.8, 0.9, 1.1].map((goal) => atLeast(goal, share)), ['met', 'not decided', 'NOT MET'])
  t.same([1, 0.9, 0.7].map((goal) => atMost(goal, share)), ['met', 'not decided', 'NOT MET'])
  const rounds = Array.from({ length: 6 }, (_, round) => order(['a', 'b', 'c'], round).join(''))
  t.same(rounds, ['abc', 'cba', 'bca', 'acb', 'cab', 'bac'], 'each stands before and after each other')
})

t.test('rows are measured with those that they are compared with, and two checkouts row by row', async (t) => {
  const { allRows, chosenRows } = await load<typeof import('../bench/cases.ts')>('cases')
  const { comparison, loginRows } = await load<typeof import('../bench/report.ts')>('report')
  const { wanted } = await load<typeof import('../bench/settings.ts')>('settings')
  const { settings, rows, compare } = wanted(['--rows', 'd,i,p', '--compare', '../other'])
  const all = allRows(settings, 'redis://127.0.0.1:6379')
  t.same([rows, compare], [['d', 'i', 'p'], '../other'])
  t.equal(chosenRows(all, rows).map(({ letter }) => letter).join(''), 'abdhinpq')
  t.equal(chosenRows(all, undefined).length, all.length)
  t.notOk(allRows(settings, undefined).some(({ letter }) => letter === 'i'), 'without Redis, there are no such rows')
  const pair = (own: number[]) => ({ title: 'd', cpu: [own, [100, 100, 100, 100, 100]] as [number[], number[]] })
  const [, less, more, same] = comparison([
    pair([90, 91, 92, 93, 110]), pair([110, 109, 108, 107, 90]), pair([90, 95, 100, 105, 110])
  ])
  t.same([less?.at(-1), more?.at(-1), same?.at(-1)], ['less', 'MORE', 'no difference seen'])
  t.match(loginRows([100, 100], [110, 110]).at(-1)?.slice(3), ['by hand', '', '1.10 (1.10–1.10)', '≤ 1.15 met'])
  t.match(less, ['d', '', '', '', '92.0', '100.0', '0.92 (0.91–0.93)'])
})
