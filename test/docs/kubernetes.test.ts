import t from 'tap'
import { optionsFor } from '../support/app.ts'
import { faultyStore } from '../support/modes.ts'
import { openPage } from '../support/pages.ts'
import { startedClock, startedProvider } from '../support/started.ts'

const page = openPage('docs/kubernetes.md')

t.test('the probes', async (t) => {
  const provider = await startedProvider(t)
  const { store, fault } = faultyStore()
  const app = await page.run(t, "'/ready'", { context: { options: optionsFor(provider, { store }) } })
  const paths = new Set([...page.text.matchAll(/path: (\S+),/g)].map(([, path]) => path as string))
  t.same(paths, new Set(['/live', '/ready']))
  const statuses = async () => await Promise.all([...paths].map(async (path) => (await app.inject(path)).statusCode))
  fault.verbs = new Set(['all'])
  t.same(await statuses(), [200, 503], 'the store is gone')

  const clock = startedClock(t)
  fault.verbs = null
  provider.fault({ on: 'metadata', status: 503 }, { on: 'jwks', status: 503 })
  clock.advance(7200)
  t.same(await statuses(), [200, 200], 'the provider is gone')
  t.equal((await app.inject('/ready')).json().status, 'degraded')
})

t.test('every block of code is tested above', async (t) => t.same(page.untested(), []))
