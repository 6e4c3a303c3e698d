import t from 'tap'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, optionsFor } from '../support/app.ts'
import { openPage } from '../support/pages.ts'
import type { Test } from 'tap'

const page = openPage('README.md')

async function start (t: Test, roles: string[] = []) {
  const provider = await startProvider({ users: [{ sub: 'alice', name: 'Alice', email: 'alice@example.com', roles }] })
  t.teardown(async () => await provider.close())
  return provider
}

t.test('a first page', async (t) => {
  t.same(page.blocks.map(({ language }) => language), ['sh', 'ts', 'ts', 'ts', 'ts', 'html', 'ts'])
  t.equal(page.blocks[0]?.code, 'npm install fastify-oidc\n')
  t.ok(page.blockWith('app.listen').split('\n').length <= 26, 'the quick start has 25 lines')
  t.ok(page.text.length <= 14_000, 'it is short')
})

/** The provider of the test has no certificate, which the quick start does not allow. */
function allowHttp (code: string): string {
  return code.replace('session: {', 'allowInsecureLoopback: true,\n  session: {')
}

t.test('quick start', async (t) => {
  const provider = await start(t, ['admin'])
  Object.assign(process.env, {
    OIDC_ISSUER: provider.issuer,
    OIDC_CLIENT_ID: 'web',
    OIDC_CLIENT_SECRET: provider.clients[0]?.client_secret,
    BASE_URL,
    OIDC_SESSION_KEY: SESSION_KEY
  })
  const app = await page.run(t, 'app.listen', { change: allowHttp })
  const browser = client({ app, baseUrl: BASE_URL })
  t.equal(await (await browser.goto('/')).text(), 'This page is public.')
  t.match(await (await browser.goto('/me')).json(), { sub: 'alice', iss: provider.issuer })
  t.equal(await (await browser.goto('/admin')).text(), 'Only admins see this.')
  t.equal((await browser.fetch('/auth/logout', { method: 'POST' })).status, 200)
  t.equal((await browser.fetch('/me')).status, 401)
})

t.test('the quick start names what is missing', async (t) => {
  for (const [name, option] of [
    ['OIDC_ISSUER', 'issuer'],
    ['OIDC_CLIENT_ID', 'clientId'],
    ['OIDC_CLIENT_SECRET', 'clientSecret'],
    ['BASE_URL', 'baseUrl'],
    ['OIDC_SESSION_KEY', 'session.key']
  ] as const) {
    const change = (code: string): string => allowHttp(code).replace(`process.env.${name} ??`, 'undefined ??')
    await t.rejects(page.run(t, 'app.listen', { change }), { code: 'FST_OIDC_OPTION', message: `"${option}"` })
  }
})

t.test('protect a route', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "'/reports'", { context: { options: optionsFor(provider) } })
  const browser = client({ app, baseUrl: BASE_URL })
  t.equal(await (await browser.goto('/home')).text(), 'anonymous')
  t.equal((await browser.fetch('/reports')).status, 401, 'a script is not sent to log in')
  t.equal((await browser.goto('/reports')).status, 403, 'the provider did not tell the department')
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, department: { name: 'finance' } }) })
  await browser.goto('/auth/login')
  t.equal(await (await browser.goto('/reports')).text(), 'reports')
  t.equal(await (await browser.goto('/home')).text(), 'alice')
})

t.test('your users', async (t) => {
  const provider = await start(t)
  const told: unknown[] = []
  const app = await page.run(t, 'onClaims:', {
    context: {
      options: optionsFor(provider),
      users: { upsert: async (user) => { told.push(user); return { id: 7, name: 'Alice' } } }
    }
  })
  const browser = client({ app, baseUrl: BASE_URL })
  t.same(await (await browser.goto('/user')).json(), { name: 'Alice' })
  t.same(told, [{ iss: provider.issuer, sub: 'alice', email: 'alice@example.com' }])
})

t.test('APIs', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "'/api/reports'", { context: { options: optionsFor(provider) } })
  const ask = async (overrides: Record<string, unknown>) => await app.inject({
    url: '/api/reports',
    headers: { authorization: `Bearer ${provider.accessToken({ sub: 'alice', scope: 'reports:read', overrides })}` }
  })
  t.same((await ask({ aud: 'https://api.example.com' })).json(), { sub: 'alice' })
  t.equal((await ask({ aud: 'https://other.example.com' })).statusCode, 401)
  t.equal((await ask({ aud: 'https://api.example.com', sub: 'web' })).statusCode, 403, 'a client without a user')
  t.equal((await app.inject('/api/reports')).statusCode, 401)
})

t.test('testing', async (t) => {
  const { status, stdout } = page.runTests(t, ['users see their own page'])
  t.equal(status, 0, stdout)
  t.match(stdout, '\nok 1 - users see their own page\n')
  t.match(stdout, '\n# pass 1\n')
})

t.test('every block of code is tested above', async (t) => t.same(page.untested(), []))
