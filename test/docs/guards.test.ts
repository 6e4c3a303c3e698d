import t from 'tap'
import { client, sessionCookie, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, optionsFor } from '../support/app.ts'
import { memberNames, openPage } from '../support/pages.ts'
import type { Test } from 'tap'

const page = openPage('docs/guards.md')

async function start (t: Test) {
  const provider = await startProvider({ users: [{ sub: 'alice', name: 'Alice', email: 'alice@example.com' }] })
  t.teardown(async () => await provider.close())
  return provider
}

t.test('guards', async (t) => {
  const provider = await start(t)
  const options = optionsFor(provider, { scope: 'openid email profile' })
  const app = await page.run(t, "'/reports'", { context: { options } })
  const browser = client({ app, baseUrl: BASE_URL })
  t.equal(await (await browser.goto('/home')).text(), 'anonymous')
  t.equal((await browser.goto('/reports')).status, 403, 'the provider did not tell the department')
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, department: { name: 'finance' } }) })
  await browser.goto('/auth/login')
  t.equal(await (await browser.goto('/reports')).text(), 'reports')
  t.equal(await (await browser.goto('/home')).text(), 'alice')
  t.equal((await browser.fetch('/transfer', { method: 'POST' })).status, 200)
  const postFrom = async (from: string): Promise<number> =>
    (await browser.fetch('/transfer', { method: 'POST', from, credentials: 'include' })).status
  t.equal(await postFrom('https://evil.example.com'), 403, 'a sibling sends the cookie')
  t.equal(await postFrom('https://evil.test'), 401, 'another site does not')
})

t.test('a check of its own', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "'/teams/:team'", { context: { options: optionsFor(provider) } })
  const cookie = sessionCookie(app, { claims: { sub: 'alice', teams: ['red'] } })
  t.equal((await app.inject({ url: '/teams/red', headers: { cookie } })).body, 'the team')
  t.equal((await app.inject({ url: '/teams/blue', headers: { cookie } })).statusCode, 403)
})

t.test('an awaited guard', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "'/prices/:group'", { context: { options: optionsFor(provider) } })
  const get = async (url: string, roles: string[]) => {
    const headers = { cookie: sessionCookie(app, { claims: { roles } }) }
    const { statusCode, body } = await app.inject({ url, headers })
    return [statusCode, body]
  }
  t.same(await get('/prices/public', []), [200, 'the prices for public'])
  t.same(await get('/prices/staff', ['staff']), [200, 'the prices for staff'])
  t.equal((await get('/prices/staff', []))[0], 403)
  t.equal((await app.inject('/prices/staff')).statusCode, 401)
})

t.test('authenticate', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "'/greeting'", { context: { options: optionsFor(provider) } })
  t.equal((await app.inject('/greeting')).body, 'Hello stranger')
  t.equal((await app.inject({ url: '/greeting', headers: { cookie: sessionCookie(app) } })).body, 'Hello alice')
})

t.test('guard many routes', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "'/health'", { context: { options: optionsFor(provider) } })
  const get = async (url: string, roles?: string[]): Promise<number> => {
    const headers = roles === undefined ? {} : { cookie: sessionCookie(app, { claims: { roles } }) }
    return (await app.inject({ url, headers })).statusCode
  }
  t.same([await get('/account'), await get('/health'), await get('/admin')], [401, 200, 401])
  t.same([await get('/account', []), await get('/admin', []), await get('/admin', ['admin'])], [200, 403, 200])
})

t.test('read who it is without a guard', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "'/welcome'", { context: { options: optionsFor(provider) } })
  t.equal((await app.inject('/welcome')).body, 'Welcome.')
  t.equal((await app.inject({ url: '/welcome', headers: { cookie: sessionCookie(app) } })).body, 'Welcome alice.')
})

t.test('the tables have every condition and every other option', async (t) => {
  const rows = ['condition', 'option'].flatMap((heading) => [...page.rowsOf(heading).keys()]).map((cell) => cell.replaceAll('`', ''))
  t.same(rows.sort(), memberNames('GuardOptions', 'OptionalGuardOptions').sort())
})

t.test('every block of code is tested above', async (t) => t.same(page.untested(), []))
