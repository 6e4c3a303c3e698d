import t from 'tap'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY } from '../support/app.ts'
import { openPage } from '../support/pages.ts'
import type { Test } from 'tap'
import type { Provider, TestBrowser } from '../../lib/testing/index.ts'

const page = openPage('docs/migrating.md')

/** Runs the application of the block after the migration that has this text. */
async function start (t: Test, text: string): Promise<{ provider: Provider, browser: TestBrowser }> {
  const provider = await startProvider({ users: [{ sub: 'alice', name: 'Alice', roles: ['admin'] }] })
  t.teardown(async () => await provider.close())
  Object.assign(process.env, {
    OIDC_ISSUER: provider.issuer,
    OIDC_CLIENT_ID: 'web',
    OIDC_CLIENT_SECRET: provider.clients[0]?.client_secret,
    BASE_URL,
    OIDC_SESSION_KEY: SESSION_KEY
  })
  // The provider of the test has no certificate, and the machine may be busy.
  const change = (code: string): string => code.replace('session: {', 'allowInsecureLoopback: true, timeout: 20, session: {')
  const app = await page.run(t, text, { change })
  return { provider, browser: client({ app, baseUrl: BASE_URL }) }
}

t.test('from @fastify/oauth2: the same routes', async (t) => {
  const { provider, browser } = await start(t, 'userinfo: true')
  t.equal((await browser.goto('/')).text(), 'Hello')
  t.match((await browser.goto('/me')).json(), { sub: 'alice', name: 'Alice' })
  t.equal((await browser.goto('/admin')).text(), 'Only admins see this.')
  t.match((await browser.goto('/orders')).json(), { calledWith: Number })
  t.equal(provider.count('userinfo'), 1)
  await browser.post('/auth/logout')
  t.equal((await browser.fetch('/me')).status, 401)
  t.equal(provider.count('end_session'), 1)
})

t.test('from express-openid-connect: the same routes', async (t) => {
  const { browser } = await start(t, 'offlineAccess: true\n})')
  t.equal((await browser.goto('/')).text(), 'Hello')
  t.match((await browser.goto('/me')).json(), { sub: 'alice' })
  t.equal((await browser.goto('/admin')).text(), 'Only admins see this.')
  t.match((await browser.goto('/orders')).json(), { calledWith: Number })
  t.equal((await browser.fetch('/auth/logout', { method: 'POST' })).status, 200)
  t.equal((await browser.fetch('/orders')).status, 401)
})

t.test('from Passport: the users and their roles stay in the application', async (t) => {
  const { browser } = await start(t, 'new Map<string, User>')
  t.equal((await browser.goto('/')).text(), 'Hello')
  t.match((await browser.goto('/me')).json(), { id: 1, name: 'Alice', role: 'user' })
  t.equal((await browser.goto('/admin')).status, 403)
})

t.test('every block of code is tested above', async (t) => t.same(page.untested(), []))
