import { join } from 'node:path'
import t, { type Test } from 'tap'
import { launchChromium, skipWithoutChromium } from './support/chromium.ts'
import { SESSION_KEY, buildApp as buildPlainApp } from './support/app.ts'
import { startProvider as startKitProvider } from '../lib/testing/index.ts'
import { loadExample, startExampleProvider } from './support/example.ts'
import { startOidcProvider } from './support/oidc-provider.ts'
import { freePort } from './support/free-port.ts'
import type { BrowserContext, BrowserContextOptions, Page } from 'playwright-core'

t.setTimeout(300_000)

t.test('the server-rendered example in Chromium', { skip: skipWithoutChromium }, async (t) => {
  const { baseUrl, issuer } = await startExample(t)
  const browser = await launchChromium()
  t.teardown(() => browser.close())
  const complaints: string[] = []

  /** A new browser context without cookies. */
  async function open (t: Test, options?: BrowserContextOptions): Promise<BrowserContext> {
    const context = await browser.newContext({ baseURL: baseUrl, ...options })
    t.teardown(() => context.close())
    // The pages of the provider are not checked.
    context.on('console', (message) => {
      if (!message.location().url.startsWith(issuer)) complaints.push(message.text())
    })
    context.on('weberror', (error) => complaints.push(error.error().message))
    return context
  }

  t.test('a click on "Log in" leads to the claims', async (t) => {
    const page = await newPage(await open(t))
    await page.goto('/')
    await shoot(page, 'home-anonymous')
    await page.getByRole('link', { name: 'Log in' }).click()
    await shoot(page, 'sign-in')
    await signIn(page, 'alice')
    t.equal(page.url(), `${baseUrl}/me`)
    await shoot(page, 'me')
    t.equal(await cell(page, 'sub'), 'alice')
    t.equal(await cell(page, 'roles'), '["admin","user"]')
    t.equal(await page.getByRole('heading', { level: 1 }).textContent(), 'Alice', 'the name comes from UserInfo')
    await page.goto('/')
    await shoot(page, 'home')
    t.match(await text(page), 'Hello, Alice')
  })

  t.test('a login that began at a deep link ends there', async (t) => {
    const page = await newPage(await open(t))
    await page.goto('/admin?tab=2&name=%C3%A9#part')
    await signIn(page, 'alice')
    t.equal(page.url(), `${baseUrl}/admin?tab=2&name=%C3%A9#part`)
    t.match(await text(page), 'Administration')
  })

  t.test('ten tabs that a browser restores at the same moment are all logged in', async (t) => {
    const context = await open(t)
    const tabs = await openTabs(context, 10)
    await Promise.all(tabs.map((page) => signIn(page, 'alice')))
    t.strictSame(tabs.map(urlOf), tabs.map((_, index) => `${baseUrl}/me?tab=${index}`))
    t.strictSame(await Promise.all(tabs.map((page) => cell(page, 'sub'))), tabs.map(() => 'alice'))
  })

  t.test('ten tabs need no form when the provider knows the user', async (t) => {
    const context = await open(t)
    await logIn(await newPage(context), 'alice')
    await context.clearCookies({ name: /^oidc/ })
    const tabs = await openTabs(context, 10)
    t.strictSame(tabs.map(urlOf), tabs.map((_, index) => `${baseUrl}/me?tab=${index}`))
  })

  t.test('the back button after a login leads on', async (t) => {
    const page = await newPage(await open(t))
    await page.goto('/')
    await page.getByRole('link', { name: 'Log in' }).click()
    await signIn(page, 'alice')
    await page.goBack()
    await shoot(page, 'back')
    t.match(await text(page), 'This sign-in has expired')
    await page.getByRole('link', { name: 'Go to the application' }).click()
    t.match(await text(page), 'Hello, Alice')
    await page.goBack()
    await page.goBack()
    t.match(await text(page), 'Hello, Alice', 'the page where it began')
  })

  t.test('a callback that is loaded again goes on', async (t) => {
    const context = await open(t)
    const page = await newPage(context)
    const callback = page.waitForRequest(/\/auth\/callback\?/)
    await page.goto('/me?from=here')
    await signIn(page, 'alice')
    const url = (await callback).url()

    await page.goto(url)
    t.equal(page.url(), `${baseUrl}/me?from=here`, 'with a session: to the page')

    await context.clearCookies({ name: 'oidc' })
    await page.goto(url)
    t.equal(page.url(), `${baseUrl}/me?from=here`, 'without a session: by another login')

    const stranger = await newPage(await open(t))
    t.equal((await stranger.goto(url))?.status(), 400)
    await shoot(stranger, 'error-state')
    await stranger.getByRole('link', { name: 'Log in again' }).click()
    await signIn(stranger, 'bob')
    t.match(await text(stranger), 'Hello, Bob', 'in another browser: by the link on the error page')
  })

  t.test('a user who cancels a login can begin again', async (t) => {
    const page = await newPage(await open(t))
    await page.goto('/me')
    const answer = page.waitForResponse(/\/auth\/callback\?/)
    await page.getByRole('button', { name: 'Cancel' }).click()
    t.equal((await answer).status(), 403)
    await shoot(page, 'error-refused')
    await page.getByRole('link', { name: 'Use another account' }).click()
    await signIn(page, 'alice')
    t.equal(page.url(), `${baseUrl}/me`, 'and still goes where it was to go')
  })

  t.test('a logout ends the session here and at the provider', async (t) => {
    const context = await open(t)
    const page = await newPage(context)
    await logIn(page, 'alice')
    await page.getByRole('button', { name: 'Log out' }).click()
    await shoot(page, 'sign-out')
    await page.getByRole('button', { name: 'Sign out' }).click()
    t.equal(page.url(), `${baseUrl}/`)
    t.match(await text(page), 'You are not logged in')
    await page.goto('/me')
    t.ok(await page.getByLabel('User name').isVisible(), 'the provider asks for the user')
    t.strictSame((await context.cookies(baseUrl)).filter(({ name }) => /^oidc(-tokens)?$/.test(name)), [])
  })

  t.test('a user who stays signed in at the provider is logged out of the example', async (t) => {
    const page = await newPage(await open(t))
    await logIn(page, 'alice')
    await page.getByRole('button', { name: 'Log out' }).click()
    await page.getByRole('button', { name: 'Stay signed in' }).click()
    t.match(await text(page), 'You are not logged in')
    await page.getByRole('link', { name: 'Log in' }).click()
    t.equal(page.url(), `${baseUrl}/me`, 'and logs in without a form')
  })

  t.test('a logout link on another site leads to a question, not to a logout', async (t) => {
    const page = await newPage(await open(t))
    await logIn(page, 'alice')
    await page.goto(`data:text/html,<a href="${baseUrl}/auth/logout">Win a prize</a>`)
    await page.getByRole('link').click()
    await shoot(page, 'logout-asks')
    t.match(await text(page), 'Do you want to log out?')
    await page.goto('/me')
    t.equal(await cell(page, 'sub'), 'alice')
  })

  t.test('a page for administrators is denied to other users', async (t) => {
    const page = await newPage(await open(t))
    await logIn(page, 'bob')
    t.equal((await page.goto('/admin'))?.status(), 403)
    await shoot(page, 'error-role')
    await page.goto('/me')
    t.equal(await cell(page, 'sub'), 'bob', 'the other user stays logged in')
  })

  t.test('everything works without JavaScript', async (t) => {
    const page = await newPage(await open(t, { javaScriptEnabled: false }))
    await page.goto('/')
    await page.getByRole('link', { name: 'Log in' }).click()
    await signIn(page, 'alice')
    t.equal(await cell(page, 'sub'), 'alice')
    await page.goto('/')
    t.match(await text(page), 'Hello, Alice')
    await page.getByRole('button', { name: 'Log out' }).click()
    await page.getByRole('button', { name: 'Sign out' }).click()
    t.match(await text(page), 'You are not logged in')
  })

  t.test('the pages show foreign text as text, not as HTML', async (t) => {
    const page = await newPage(await open(t))
    t.equal((await page.goto('/auth/callback?error=%3Cimg%20src=x%3E&state=%3Cimg%20src=x%3E'))?.status(), 400)
    t.equal(await page.locator('img').count(), 0)
    t.equal((await page.goto('/%3Cimg%20src=x%3E'))?.status(), 404)
    await shoot(page, 'not-found')
    t.equal(await page.locator('img').count(), 0)
  })

  t.test('the pages fit a telephone in the dark', async (t) => {
    const page = await newPage(await open(t, { viewport: { width: 360, height: 740 }, colorScheme: 'dark' }))
    await logIn(page, 'alice')
    await shoot(page, 'phone-me')
    t.ok(await fits(page))
    await page.goto('/')
    await shoot(page, 'phone-home')
    t.ok(await fits(page))
  })

  t.test('the embedded provider helps with a name that it cannot use', async (t) => {
    const page = await newPage(await open(t))
    await page.goto('/me')
    await page.getByLabel('User name').fill('<b>')
    await page.getByRole('button', { name: 'Sign in' }).click()
    t.match(await page.getByRole('alert').textContent(), 'letters, digits, dots and dashes')
    await signIn(page, 'Bob')
    t.equal(await cell(page, 'sub'), 'bob')
  })

  t.test('a logout that begins at the embedded provider ends there', async (t) => {
    const page = await newPage(await open(t))
    await logIn(page, 'alice')
    await page.goto(`${issuer}/session/end`)
    await page.getByRole('button', { name: 'Sign out' }).click()
    t.match(await text(page), 'You are signed out at the provider.')
  })

  t.test('the embedded provider explains what it refuses', async (t) => {
    const page = await newPage(await open(t))
    await page.goto(`${issuer}/auth?client_id=nobody`)
    t.match(await text(page), /Something went wrong\s+client is invalid/)
    await page.getByRole('link', { name: 'Go to the application' }).click()
    t.match(await text(page), 'You are not logged in')
  })

  t.test('the example works with a provider that sends fewer claims', async (t) => {
    const otherUrl = `http://localhost:${await freePort()}`
    const { issuer, clientId, clientSecret, close } = await startOidcProvider({
      redirectUris: [`${otherUrl}/auth/callback`],
      autoLogin: 'carol',
      claims: () => ({})
    })
    t.teardown(close)
    await startApp(t, { baseUrl: otherUrl, issuer, clientId, clientSecret })
    const page = await newPage(await open(t))
    await page.goto(`${otherUrl}/me`)
    t.equal(page.url(), `${otherUrl}/me`)
    t.equal(await page.getByRole('heading', { level: 1 }).textContent(), 'carol')
    t.equal(await page.getByRole('row', { name: 'signed in' }).count(), 0)
  })

  t.test('a user chooses one of several providers', async (t) => {
    const url = `http://localhost:${await freePort()}`
    const [guests, staff] = [await startKitProvider(), await startKitProvider({ users: [{ sub: 'employee' }] })]
    const optionsOf = ({ issuer, clients }: typeof guests, label: string) => ({
      label,
      issuer,
      clientId: 'web',
      clientSecret: clients[0]?.client_secret as string
    })
    const app = await buildPlainApp(t, {
      baseUrl: url,
      session: { key: SESSION_KEY },
      allowInsecureLoopback: true,
      providers: { guests: optionsOf(guests, 'Guests'), staff: optionsOf(staff, 'Employees') }
    })
    t.teardown(async () => await Promise.all([guests.close(), staff.close()]))
    await app.listen({ port: Number(new URL(url).port) })
    const page = await newPage(await open(t))
    await page.goto(`${url}/me?x=1`)
    t.equal(await page.title(), 'How do you want to log in?')
    await page.getByRole('link', { name: 'Employees' }).click()
    t.equal(page.url(), `${url}/me?x=1`)
    t.match(await page.textContent('body'), /"sub":"employee".*"provider":"staff"/)
  })

  t.test('K1 a service worker passes the navigation on', async (t) => {
    const baseUrl = `http://localhost:${await freePort()}`
    const provider = await startKitProvider()
    t.teardown(async () => await provider.close())
    const app = await buildPlainApp(t, {
      baseUrl,
      issuer: provider.issuer,
      clientId: 'web',
      clientSecret: provider.clients[0]?.client_secret as string,
      session: { key: SESSION_KEY },
      allowInsecureLoopback: true
    })
    const dests: unknown[] = []
    app.addHook('onRequest', async ({ url, headers }) => {
      if (url.startsWith('/me')) dests.push(`${headers['sec-fetch-mode']} ${headers['sec-fetch-dest']}`)
    })
    const worker = `
      self.addEventListener('install', () => self.skipWaiting())
      self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()))
      self.addEventListener('fetch', (event) => event.respondWith(fetch(event.request)))`
    app.get('/worker.js', async (_request, reply) => await reply.type('text/javascript').send(worker))
    app.get('/start', async (_request, reply) => await reply.type('text/html').send('<title>start</title>'))
    await app.listen({ port: Number(new URL(baseUrl).port), host: 'localhost' })
    const page = await newPage(await open(t))
    await page.goto(`${baseUrl}/start`)
    await page.evaluate('navigator.serviceWorker.register(\'/worker.js\').then(() => navigator.serviceWorker.ready)')
    await page.waitForFunction('navigator.serviceWorker.controller !== null')

    await page.goto(`${baseUrl}/me?x=1`)
    t.equal(page.url(), `${baseUrl}/me?x=1`)
    t.match(await page.textContent('body'), /"sub":"alice"/)
    t.equal(dests[0], 'navigate empty', 'the worker has passed the page on')
    const script = 'fetch(\'/me\', { credentials: \'omit\', headers: { accept: \'text/html\' } }).then(({ status }) => status)'
    t.equal(await page.evaluate(script), 401, 'a script is none')
    await page.goto(`data:text/html,<form method="post" action="${baseUrl}/auth/logout"><button>Win</button></form>`)
    const answer = page.waitForResponse(`${baseUrl}/auth/logout`)
    await page.getByRole('button').click()
    t.equal((await answer).status(), 403, 'another site cannot log the user out through the worker')
    await page.goto(`${baseUrl}/me`)
    t.match(await page.textContent('body'), /"sub":"alice"/)
  })

  t.test('no page violates its Content-Security-Policy', async (t) => {
    t.strictSame(complaints.filter((complaint) => !complaint.startsWith('Failed to load resource')), [])
  })
})

/** The example as `npm start` runs it, but on free ports. */
async function startExample (t: Test): Promise<{ baseUrl: string, issuer: string }> {
  const provider = await startExampleProvider(t)
  await startApp(t, provider)
  return provider
}

async function startApp (
  t: Test,
  settings: { baseUrl: string; issuer: string; clientId: string; clientSecret: string }
): Promise<void> {
  const { buildApp } = await loadExample<typeof import('../example/server-rendered/app.ts')>('server-rendered/app')
  const app = await buildApp({ ...settings, allowInsecureLoopback: true, session: { key: SESSION_KEY } }, {})
  t.teardown(() => app.close())
  await app.listen({ port: Number(new URL(settings.baseUrl).port), host: 'localhost' })
}

async function newPage (context: BrowserContext): Promise<Page> {
  const page = await context.newPage()
  page.setDefaultTimeout(60_000)
  return page
}

async function openTabs (context: BrowserContext, count: number): Promise<Page[]> {
  const tabs = await Promise.all(Array.from({ length: count }, () => newPage(context)))
  await Promise.all(tabs.map((page, index) => page.goto(`/me?tab=${index}`)))
  return tabs
}

async function logIn (page: Page, name: string): Promise<void> {
  await page.goto('/me')
  await signIn(page, name)
}

async function signIn (page: Page, name: string): Promise<void> {
  await page.getByLabel('User name').fill(name)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.waitForURL((url) => !url.pathname.startsWith('/sign-in/'))
}

async function cell (page: Page, name: string): Promise<string | null> {
  return await page
    .getByRole('row')
    .filter({ has: page.getByRole('rowheader', { name, exact: true }) })
    .getByRole('cell')
    .last()
    .textContent()
}

async function text (page: Page): Promise<string> {
  return await page.locator('body').innerText()
}

async function fits (page: Page): Promise<boolean> {
  return await page.locator('html').evaluate((html) => html.scrollWidth <= html.clientWidth)
}

function urlOf (page: Page): string {
  return page.url()
}

/** Saves a screenshot in the folder OIDC_SCREENSHOTS, when it is set. */
async function shoot (page: Page, name: string): Promise<void> {
  const folder = process.env.OIDC_SCREENSHOTS
  if (folder !== undefined) await page.screenshot({ path: join(folder, `${name}.png`) })
}
