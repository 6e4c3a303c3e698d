import t from 'tap'
import { client, startClock, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, optionsFor } from '../support/app.ts'
import { launchChromium, skipWithoutChromium } from '../support/chromium.ts'
import { loadExample } from '../support/example.ts'
import { freePort } from '../support/free-port.ts'
import { until } from '../support/until.ts'

t.setTimeout(240_000)

const { buildApp } = await loadExample<typeof import('../../example/single-page/app.ts')>('single-page/app')

t.test('a script sees 401, the notes, and where to go after a logout', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = await buildApp(optionsFor(provider), {})
  t.teardown(async () => await app.close())
  const browser = client({ app, baseUrl: BASE_URL })

  const home = await browser.goto('/')
  t.same([home.status, home.headers.get('content-type')], [200, 'text/html; charset=utf-8'])
  t.equal((await browser.fetch('/auth/session')).status, 401)
  const refused = await browser.fetch('/api/notes')
  t.same([refused.status, refused.json().login], [401, `${BASE_URL}/auth/login`])

  await browser.goto('/auth/login?return_to=/')
  t.match((await browser.fetch('/auth/session')).json(), { claims: { sub: 'alice' } })
  t.same((await browser.fetch('/api/notes')).json(), [])
  t.equal((await browser.fetch('/api/notes', { method: 'POST', json: { text: '' } })).status, 400)
  const added = await browser.fetch('/api/notes', { method: 'POST', json: { text: 'milk' } })
  t.same([added.status, added.json()], [201, ['milk']])
  t.same((await browser.fetch('/api/notes', { method: 'POST', json: { text: 'tea' } })).json(), ['milk', 'tea'])
  t.same((await browser.fetch('/api/notes')).json(), ['milk', 'tea'])
  const foreign = await browser.fetch('/api/notes', { method: 'DELETE', from: 'https://evil.example/', credentials: 'include' })
  t.not(foreign.status, 200, 'another site cannot delete them')

  const logout = await browser.fetch('/auth/logout', { method: 'POST' })
  t.match(logout.json(), { redirect_to: `${provider.issuer}/` })
  t.equal((await browser.goto(logout.json().redirect_to)).url, `${BASE_URL}/`)
  t.equal((await browser.fetch('/api/notes')).status, 401)
  t.equal(provider.count('end_session'), 1)
})

t.test('a login that is older than a minute is not enough to delete', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const clock = startClock()
  t.teardown(() => clock.restore())
  const app = await buildApp(optionsFor(provider, { clockTolerance: 0 }), {})
  t.teardown(async () => await app.close())
  const browser = client({ app, baseUrl: BASE_URL })
  await browser.goto('/auth/login')
  await browser.fetch('/api/notes', { method: 'POST', json: { text: 'milk' } })
  clock.advance(61)
  const refused = await browser.fetch('/api/notes', { method: 'DELETE' })
  t.match([refused.status, refused.json()], [401, { max_age: 60 }])
  t.same((await browser.fetch('/api/notes')).json(), ['milk'])
  const login = new URL(refused.json().login)
  login.searchParams.set('return_to', '/')
  t.equal((await browser.goto(login.href)).url, `${BASE_URL}/`, 'the user logs in once more, and comes back')
  t.same((await browser.fetch('/api/notes', { method: 'DELETE' })).json(), [])
})

t.test('in Chromium', { skip: skipWithoutChromium }, async (t) => {
  const provider = await startProvider({ users: [{ sub: 'alice', name: 'Alice' }] })
  t.teardown(async () => await provider.close())
  const baseUrl = `http://localhost:${await freePort()}`
  const app = await buildApp(optionsFor(provider, {
    baseUrl, userinfo: true, clockTolerance: 0, session: { key: SESSION_KEY }
  }), {})
  t.teardown(async () => await app.close())
  await app.listen({ port: Number(new URL(baseUrl).port), host: 'localhost' })
  const browser = await launchChromium()
  t.teardown(async () => await browser.close())
  const page = await browser.newPage()
  const errors: string[] = []
  page.on('pageerror', (error) => errors.push(error.message))

  await page.goto(baseUrl)
  await page.getByRole('button', { name: 'Ask the API' }).click()
  t.match(
    await page.getByRole('status').textContent(),
    /^401 Unauthorized\n\{[^]*"FST_OIDC_LOGIN_REQUIRED"/,
    'to a user who is not logged in'
  )
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.getByRole('heading', { name: 'Your notes' }).waitFor()
  t.equal(page.url(), `${baseUrl}/`)
  t.equal(await page.locator('#user').textContent(), 'Alice')
  await page.getByLabel('New note').fill('<b>milk</b>')
  await page.getByRole('button', { name: 'Add' }).click()
  await page.getByRole('listitem').waitFor()
  t.equal(await page.getByRole('listitem').textContent(), '<b>milk</b>', 'text stays text')

  const clock = startClock()
  t.teardown(() => clock.restore())
  clock.advance(120)
  const before = provider.count('authorize')
  await page.getByRole('button', { name: 'Delete all' }).click()
  await until(() => provider.count('authorize') === before + 1)
  await page.waitForURL(baseUrl + '/')
  await page.getByRole('listitem').waitFor()
  await page.getByRole('button', { name: 'Delete all' }).click()
  await page.getByRole('listitem').waitFor({ state: 'detached' })

  await page.getByRole('button', { name: 'Log out' }).click()
  await page.getByRole('heading', { name: 'You are not logged in' }).waitFor()
  t.equal(provider.count('end_session'), 1, 'at the provider as well')
  t.same(errors, [])
})
