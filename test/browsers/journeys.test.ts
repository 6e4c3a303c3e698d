import helmet from '@fastify/helmet'
import t from 'tap'
import { launchChromium, skipWithoutChromium } from '../support/chromium.ts'
import { startIdentity, startSite } from '../support/site.ts'
import { until } from '../support/until.ts'
import type { Page } from 'playwright-core'

t.setTimeout(120_000) // where other work shares the cores

t.test('journeys', { skip: skipWithoutChromium }, async (t) => {
  const provider = await startIdentity(t)
  const browser = await launchChromium()
  t.teardown(async () => await browser.close())
  const asked: string[] = []
  const { baseUrl } = await startSite(t, provider, {
    before: async (app) => {
      // Without https, the default `upgrade-insecure-requests` would stop everything.
      const directives = { upgradeInsecureRequests: null, scriptSrc: ["'self'", "'inline-speculation-rules'"] }
      await app.register(helmet, { contentSecurityPolicy: { directives } })
      app.addHook('onResponse', async ({ url, headers }, { statusCode }) => {
        asked.push(`${statusCode} ${url.split('?', 1)[0]} ${String(headers['sec-purpose'] ?? '')}`.trim())
      })
    },
    after: (app) => app.get('/ahead', async ({ query }, reply) => {
      const { kind, path } = query as { kind: string, path: string }
      const rules = JSON.stringify({ [kind]: [{ urls: [path], eagerness: 'immediate' }] })
      const script = `<script type="speculationrules">${rules}</script>`
      return await reply.type('text/html').send(`<a href="${path}">go</a>${script}`)
    })
  })
  const context = await browser.newContext({ baseURL: baseUrl })
  const page = await context.newPage()
  page.setDefaultTimeout(60_000)
  const user = async (): Promise<string | null> => await page.getByRole('heading').textContent()
  const open = async (): Promise<Page> => {
    await context.clearCookies()
    provider.forget()
    provider.clearRequests()
    asked.length = 0
    await page.goto('/')
    return page
  }
  const logOut = async (page: Page): Promise<void> => {
    await page.getByRole('button', { name: 'Log out' }).click()
    await page.waitForURL(`${baseUrl}/`)
  }

  t.test('K1 a double click on the login, and a reload while the callback runs', async (t) => {
    await open()
    const clear = provider.fault({ on: 'authorize', delay: 300 })
    await page.locator('#login').dblclick()
    await page.waitForURL('**/me')
    clear()
    t.equal(await user(), 'alice')

    await open()
    provider.fault({ on: 'token', delay: 500, times: 1 })
    await page.locator('#login').click({ noWaitAfter: true })
    await until(() => provider.count('token') === 1)
    // As a user who is impatient: the login begins again while the first callback waits.
    await page.goto('/auth/login?return_to=/me')
    t.match([page.url(), await user()], [`${baseUrl}/me`, 'alice'])
    t.notOk(asked.some((line) => /^[45]/.test(line)), asked.join(', '))
  })

  t.test('K1 the back button after a login, and after a logout', async (t) => {
    await open()
    await page.locator('#login').click()
    await page.waitForURL('**/me')
    await page.goBack()
    t.equal(await user(), 'alice', 'the public page knows the user')
    await page.goForward()
    await logOut(page)
    t.equal(await user(), 'nobody')
    provider.options.approve = () => false
    t.teardown(() => { delete provider.options.approve })
    await page.goBack()
    t.notMatch(await page.content(), 'alice', 'no page of the session comes from a cache')
    t.match(await page.content(), 'FST_OIDC_PROVIDER_REFUSED')
  })

  t.test('K1 a form that is posted after the session has ended: a page that says so', async (t) => {
    await open()
    await page.goto('/me')
    await page.goto('/')
    await context.clearCookies()
    await page.getByRole('button', { name: 'Save' }).click()
    t.match([page.url(), await user()], [`${baseUrl}/note`, 'You need to log in.'])
    await page.getByRole('link', { name: 'Log in again' }).click()
    t.equal(await user(), 'alice')
    await page.getByRole('button', { name: 'Save' }).click()
    t.equal(await user(), 'saved by alice')
  })

  t.test('K2 ten tabs that begin at the same moment are all logged in', async (t) => {
    await open()
    const tabs = await Promise.all(Array.from({ length: 10 }, async () => await context.newPage()))
    await Promise.all(tabs.map(async (tab, index) => await tab.goto(`/me?tab=${index}`)))
    t.same(tabs.map((tab) => tab.url()), tabs.map((_, index) => `${baseUrl}/me?tab=${index}`))
    await Promise.all(tabs.map(async (tab) => await tab.close()))
  })

  for (const kind of ['prefetch', 'prerender']) {
    t.test(`K1 ${kind} of the login, of a page and of the logout has no effect, and a click works`, async (t) => {
      for (const [path, before, after] of [
        ['/auth/login', 'nobody', 'alice'], ['/me', 'nobody', 'alice'], ['/auth/logout', 'alice', 'nobody']
      ] as const) {
        await open()
        if (before === 'alice') await page.goto('/me')
        provider.clearRequests()
        asked.length = 0
        await page.goto(`/ahead?kind=${kind}&path=${path}`)
        await until(() => asked.length > 1)
        t.match(asked[1], `503 ${path} prefetch`)
        t.same(provider.requests, [], 'nothing has reached the provider')
        await page.getByRole('link').click()
        await page.getByRole('heading').waitFor()
        t.equal(await user(), after, path)
      }
    })
  }

  t.test('K1 without JavaScript: login, logout, and the logout of another site', async (t) => {
    const plain = await browser.newContext({ baseURL: baseUrl, javaScriptEnabled: false })
    t.teardown(async () => await plain.close())
    const page = await plain.newPage()
    await page.goto('/')
    await page.locator('#login').click()
    t.equal(await page.getByRole('heading').textContent(), 'alice')
    await page.goto(`data:text/html,<form method="post" action="${baseUrl}/auth/logout"><button>Win</button></form>`)
    await page.getByRole('button').click()
    t.match(await page.content(), 'FST_OIDC_CROSS_SITE')
    await page.goto('/me')
    await logOut(page)
    t.equal(await page.getByRole('heading').textContent(), 'nobody')
  })

  t.test('K1 a clock of the browser that is wrong does no harm: no cookie has a date', async (t) => {
    await open()
    const lines: string[] = []
    page.on('response', async (response) => {
      lines.push(...(await response.headersArray()).filter(({ name }) => name === 'set-cookie').map(({ value }) => value))
    })
    await page.goto('/me')
    await until(() => lines.length > 2)
    t.ok(lines.filter((line) => line.startsWith('oidc')).every((line) => /; Max-Age=\d+/.test(line) && !/expires/i.test(line)))
  })
})
