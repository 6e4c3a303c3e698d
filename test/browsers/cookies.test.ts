import { once } from 'node:events'
import { createServer } from 'node:http'
import t from 'tap'
import { testCertificate } from '../../lib/testing/index.ts'
import { SESSION_KEY } from '../support/app.ts'
import { openProfile, skipWithoutChromium } from '../support/chromium.ts'
import { enlargeTokens } from '../support/enlarge.ts'
import { startIdentity, startSite } from '../support/site.ts'
import type { AddressInfo } from 'node:net'
import type { BrowserContext, Frame, Page } from 'playwright-core'
import type { Test } from 'tap'
import type { Site } from '../support/site.ts'

t.setTimeout(120_000) // where other work shares the cores

const text = async (page: Page | Frame): Promise<string> => await page.locator('body').innerText()

/** A page of another site that shows an address in a frame. */
async function startPortal (t: Test, framed: string): Promise<string> {
  const server = createServer((_request, response) => {
    response.setHeader('content-type', 'text/html').end(`<iframe src="${framed}"></iframe>`)
  }).listen(0, '127.0.0.1')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
}

async function frameIn (page: Page, portal: string): Promise<Frame> {
  await page.goto(portal)
  return page.frames()[1] as Frame
}

t.test('cookies', { skip: skipWithoutChromium }, async (t) => {
  const provider = await startIdentity(t)
  const contexts: Record<string, BrowserContext> = {}
  for (const cookies of ['all', 'first-party', 'none'] as const) contexts[cookies] = await openProfile(t, { cookies })
  const open = async (cookies: 'all' | 'first-party' | 'none'): Promise<Page> => {
    const page = await (contexts[cookies] as BrowserContext).newPage()
    page.setDefaultTimeout(60_000)
    return page
  }

  t.test('K1 a browser that blocks all cookies: a page that says so, after one login', async (t) => {
    const { baseUrl, lines } = await startSite(t, provider)
    const page = await open('none')
    for (const path of ['/me', '/auth/login']) {
      provider.clearRequests()
      const answer = await page.goto(baseUrl + path)
      t.equal(answer?.status(), 400)
      t.match(await text(page), /your browser sent no cookies\. Allow cookies for this site\.[^]*Log in again/)
      t.equal(provider.count('authorize'), 1)
    }
    t.equal(lines().split('no cookie of the login came').length - 1, 2)
  })

  t.test('K1 a page inside another site: the session, or a page with a login in a new tab', async (t) => {
    const sites: Record<string, Site> = {}
    for (const sameSite of ['lax', 'none'] as const) {
      const session = { key: SESSION_KEY, sameSite }
      sites[sameSite] = await startSite(t, provider, { tls: testCertificate(), session })
    }
    for (const [cookies, sameSite, isLoggedIn] of [
      ['all', 'lax', false], ['all', 'none', true], ['first-party', 'none', false]
    ] as const) {
      const { baseUrl, lines } = sites[sameSite] as Site
      const page = await open(cookies)
      await page.goto(`${baseUrl}/me`)
      t.match(await text(page), 'alice', 'a login in a page of its own needs no cookie of a third party')
      const frame = await frameIn(page, await startPortal(t, `${baseUrl}/me`))
      const what = `${cookies} cookies, sameSite ${sameSite}`
      if (isLoggedIn) {
        t.match(await text(frame), 'alice', what)
        continue
      }
      t.match(await text(frame), /You need to log in\.[^]*Log in again/, what)
      t.match(lines(), /"code":"FST_OIDC_LOGIN_REQUIRED","detail":"the page is in a frame[^"]*\\"session.sameSite\\" none/)
      const opened = page.waitForEvent('popup')
      await frame.getByRole('link', { name: 'Log in again' }).click()
      const tab = await opened
      await tab.waitForURL(`${baseUrl}/**`)
      t.match(await text(tab), 'alice', 'the login succeeds in a tab')
    }
  })

  t.test('K2 two applications on one host, at two ports', async (t) => {
    const [one, two] = [await startSite(t, provider), await startSite(t, provider)]
    const page = await open('all')
    for (const { baseUrl } of [one, two, one]) {
      await page.goto(`${baseUrl}/me`)
      t.match([page.url(), await text(page)], [`${baseUrl}/me`, 'alice'])
    }
    await page.getByRole('button', { name: 'Log out' }).click()
    await page.waitForURL(`${one.baseUrl}/`)
    t.match(await text(page), 'nobody')
    await page.goto(two.baseUrl)
    t.match(await text(page), 'alice', 'the logout of one leaves the other alone')
  })

  t.test('K2 two applications with one cookie name and other keys: no loop, and no logout of the other', async (t) => {
    const key = Buffer.from(Array.from({ length: 32 }, (_, index) => index * 5)).toString('base64')
    const [one, two] = [
      await startSite(t, provider, { session: { key: SESSION_KEY, cookieName: 'app' } }),
      await startSite(t, provider, { session: { key, cookieName: 'app' } })
    ]
    const page = await open('all')
    provider.clearRequests()
    const visits = [one, two, one, two, two]
    for (const { baseUrl } of visits) {
      await page.goto(`${baseUrl}/me`)
      t.match([page.url(), await text(page)], [`${baseUrl}/me`, 'alice'])
    }
    t.equal(provider.count('authorize'), 4, 'one login whenever the other application has the cookie')
    t.match(one.lines(), /no key opens the session cookie[^\n]*different values of/)
    await page.goto(one.baseUrl)
    t.match(await text(page), 'nobody')
    await page.getByRole('button', { name: 'Log out' }).click()
    await page.waitForURL(`${one.baseUrl}/`)
    await page.goto(two.baseUrl)
    t.match(await text(page), 'alice', 'a logout does not remove the cookie of the other')
    await page.goto(`${one.baseUrl}/me`)
    t.match(await text(page), 'alice')
  })

  t.test('K2 large sessions and other software on one host: no answer 431 to everything', async (t) => {
    const context = contexts['all'] as BrowserContext
    await context.clearCookies()
    const site = await startSite(t, provider)
    const page = await open('all')
    const visit = async (path: string): Promise<string> => {
      const answer = await page.goto(site.baseUrl + path)
      return `${answer?.status()} ${(await text(page)).split('\n', 1)[0]}`
    }
    const fill = async (count: number): Promise<void> => await context.addCookies(
      Array.from({ length: count }, (_, index) => ({ name: `oidc-1-tokens-${index}`, value: 'x'.repeat(3900), url: site.baseUrl }))
    )
    enlargeTokens(provider, { access_token: 1500, refresh_token: 1000, id_token: 1000 })
    t.teardown(() => { provider.clearFaults() })
    await fill(1)
    t.equal(await visit('/me'), '200 alice')
    t.match(site.lines(), /"level":40[^\n]*"cookies":"oidc-1-tokens-0 3918, [^\n]*all cookies of this host together/)
    await context.clearCookies({ name: /^oidc-\d\d/ })
    await fill(3)
    t.equal(await visit('/me'), '431 Your browser has too many cookies for this site. Delete some of them, then log in again.')
    t.match(site.lines(), /FST_OIDC_SESSION_TOO_LARGE[^\n]*beside 11754 bytes of other software \(oidc-1-tokens-\d 3918, /)
    for (let tab = 0; tab < 12; tab++) await visit(`/me?tab=${tab}`)
    t.equal(await visit('/'), '200 nobody', 'every page still opens, also after more logins')
    t.equal((await context.cookies(site.baseUrl)).filter(({ name }) => name.startsWith('oidc-1-')).length, 3, 'none was removed')
    await context.clearCookies({ name: /^oidc-1-tokens-[12]/ })
    t.equal(await visit('/me'), '200 alice')
  })
})
