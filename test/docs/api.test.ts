import t from 'tap'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, optionsFor } from '../support/app.ts'
import { memberNames, openPage } from '../support/pages.ts'
import type { Test } from 'tap'

const page = openPage('docs/api.md')

async function start (t: Test) {
  const provider = await startProvider({ users: [{ sub: 'alice', name: 'Alice', email: 'alice@example.com' }] })
  t.teardown(async () => await provider.close())
  return provider
}

t.test('an access token', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "'/token'", { context: { options: optionsFor(provider) } })
  const { length } = (await client({ app, baseUrl: BASE_URL }).goto('/token')).json() as { length: number }
  t.ok(length > 10)
})

t.test('a login with options', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "'/confirm'", { context: { options: optionsFor(provider) } })
  app.get('/account', { preHandler: app.oidc.required() }, async (request) => request.oidcClaims)
  const browser = client({ app, baseUrl: BASE_URL })
  const { location } = await browser.step('/confirm')
  t.equal(new URL(location as string).searchParams.get('max_age'), '0')
  t.match((await browser.goto('/confirm')).json(), { sub: 'alice' })
})

t.test('hooks', async (t) => {
  const provider = await start(t)
  const told: unknown[] = []
  const app = await page.run(t, 'onClaims:', {
    context: {
      options: optionsFor(provider),
      users: { upsert: async (user) => { told.push(user); return { id: 7, name: 'Alice' } } },
      audit: { write: async (_id, reason) => { told.push(reason) } }
    }
  })
  app.get('/user', { preHandler: app.oidc.required() }, async (request) => request.oidcUser)
  const browser = client({ app, baseUrl: BASE_URL })
  t.same(await (await browser.goto('/user')).json(), { id: 7, name: 'Alice' })
  await browser.post('/auth/logout')
  t.same(told, [{ iss: provider.issuer, sub: 'alice', email: 'alice@example.com' }, 'logout'])
})

t.test('your own types', async (t) => {
  const provider = await start(t)
  const options = optionsFor(provider, { onClaims: () => ({ id: 7, name: 'Alice' }) })
  const app = await page.run(t, 'declare module', { context: { options } })
  t.same(await (await client({ app, baseUrl: BASE_URL }).goto('/typed')).json(), { id: 7 })
})

t.test('the tables have every function and option', async (t) => {
  const cells = [...page.rowsOf('function').keys()]
  const functions = cells.flatMap((cell) => [...cell.matchAll(/`([\w.]+)\(/g)].map(([, name]) => name as string))
  const nested = functions.filter((name) => name.includes('.'))
  const flat = functions.filter((name) => !name.includes('.'))
  t.same([...flat, 'sessions', 'broker'].sort(), memberNames('Oidc').sort())
  t.same(nested, ['sessions.list', 'sessions.revoke', 'broker.revoke', 'broker.rotateKeys'])
  const rows = [...page.rowsOf('option').keys()].map((cell) => cell.replaceAll('`', ''))
  t.same(rows.sort(), memberNames('LoginOptions').sort())
})

t.test('every block of code is tested above', async (t) => t.same(page.untested(), []))
