import Fastify from 'fastify'
import t from 'tap'
import oidc, { refuse } from '../../index.ts'
import { startProvider } from '../../lib/testing/index.ts'
import { LANGUAGES } from '../../lib/pages/texts.ts'
import { registrationOf } from '../support/app.ts'
import { launchChromium, skipWithoutChromium } from '../support/chromium.ts'
import { freePort } from '../support/free-port.ts'
import { testKey } from '../support/keys.ts'
import type { Browser, Page } from 'playwright-core'
import type { Test } from 'tap'
import type { PageOptions } from '../../index.ts'

t.setTimeout(400_000) // where other work shares the cores

const LOGO = `data:image/svg+xml,${encodeURIComponent(
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" height="9"/></svg>'
)}`

/** An application that refuses each account, with a page of each kind. */
async function start (t: Test, pages: PageOptions): Promise<string> {
  const [guests, staff] = [await startProvider(), await startProvider()]
  t.teardown(async () => await Promise.all([guests.close(), staff.close()]))
  const baseUrl = `http://localhost:${await freePort()}`
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(async () => await app.close())
  await app.register(oidc, {
    baseUrl,
    providers: {
      guests: { ...registrationOf(guests), label: 'Guests' },
      staff: { ...registrationOf(staff), label: 'Employees' }
    },
    allowInsecureLoopback: true,
    timeout: 60,
    session: { key: testKey(7) },
    onClaims: () => { throw refuse() },
    pages
  })
  app.get('/me', { preHandler: app.oidc.required({ provider: 'guests' }) }, async () => 'me')
  await app.listen({ port: Number(new URL(baseUrl).port), host: 'localhost' })
  return baseUrl
}

/** The pages of an application with the name Shop: what Chromium's accessibility tree has of them, in its order. */
const TREES: Array<[path: string, tree: string[]]> = [
  ['/auth/login', [
    'heading How do you want to log in?', 'list', 'listitem', 'link Guests', 'listitem', 'link Employees'
  ]],
  ['/auth/logout', ['heading Do you want to log out?', 'button Log out', 'link Stay logged in']],
  ['/auth/guests/callback?state=x', [
    'heading This login cannot be completed, because your browser sent no cookies. Allow cookies for this site.',
    'paragraph', 'link Log in again'
  ]],
  ['/me', [
    'heading You logged in, but this application did not accept your account.', 'paragraph', 'paragraph',
    'link Use another account'
  ]]
]

const ROLES = new Set(['banner', 'main', 'heading', 'list', 'listitem', 'link', 'button', 'image', 'paragraph'])

async function treeOf (page: Page): Promise<string[]> {
  const session = await page.context().newCDPSession(page)
  const { nodes } = await session.send('Accessibility.getFullAXTree')
  const byId = new Map(nodes.map((node) => [node.nodeId, node]))
  const linesOf = (id: string): string[] => {
    const { ignored = true, role, name, childIds = [] } = byId.get(id) ?? {}
    const line = !ignored && ROLES.has(role?.value) ? [`${role?.value} ${name?.value ?? ''}`.trim()] : []
    return [...line, ...childIds.flatMap(linesOf)]
  }
  return linesOf(nodes[0]?.nodeId as string)
}

async function newPage (browser: Browser, options: object): Promise<{ page: Page, problems: string[] }> {
  const context = await browser.newContext(options)
  const page = await context.newPage()
  page.setDefaultTimeout(60_000)
  const problems: string[] = []
  page.on('console', (message) => {
    if (!message.text().startsWith('Failed to load resource: the server responded')) problems.push(message.text())
  })
  page.on('request', (request) => {
    if (!request.isNavigationRequest() && !request.url().startsWith('data:')) problems.push(`loads ${request.url()}`)
  })
  return { page, problems }
}

interface Measures {
  /** By the luminance of the background. */
  scheme: 'light' | 'dark'
  text: number
  border: number
  focus: [style: string, width: string, isVisible: boolean]
  width: number
}

/** The smallest contrasts of texts and of the borders of controls (WCAG 2.2), the mark of the focus, and the width. */
const MEASURE = `(() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number)
  const luminance = (color) => channels(color).slice(0, 3).map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0)
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b)
    return (high + 0.05) / (low + 0.05)
  }
  const behind = (element) => {
    const color = getComputedStyle(element).backgroundColor
    return channels(color)[3] === 0 ? behind(element.parentElement) : color
  }
  const all = (selector) => [...document.querySelectorAll(selector)]
  return {
    scheme: luminance(behind(document.querySelector('h1'))) > 0.5 ? 'light' : 'dark',
    text: Math.min(...all('h1,p,small,a,button,span').map((el) => contrast(getComputedStyle(el).color, behind(el)))),
    border: Math.min(...all('a,button').map((el) => contrast(getComputedStyle(el).borderTopColor, behind(el.parentElement)))),
    focus: all('a,button').slice(0, 1).map((el) => {
      el.focus({ focusVisible: true })
      const { outlineColor, outlineStyle, outlineWidth } = getComputedStyle(el)
      return [outlineStyle, outlineWidth, contrast(outlineColor, behind(el.parentElement)) >= 3]
    })[0],
    width: document.documentElement.scrollWidth
  }
})()`

t.test('pages for users in Chromium', { skip: skipWithoutChromium }, async (t) => {
  const browser = await launchChromium()
  t.teardown(async () => await browser.close())

  t.test('roles and names, without JavaScript, and nothing is loaded', async (t) => {
    for (const [pages, before] of [
      [{ name: 'Shop', logo: LOGO }, ['banner', 'main']],
      [{ logo: LOGO }, ['banner', 'image localhost', 'main']],
      [{}, ['main']]
    ] as const) {
      const baseUrl = await start(t, pages)
      for (const [path, tree] of TREES) {
        const { page, problems } = await newPage(browser, { baseURL: baseUrl, javaScriptEnabled: false })
        await page.goto(path)
        t.same((await treeOf(page)).map((line) => line.replace(/:\d+$/, '')), [...before, ...tree], path)
        t.equal(await page.locator('html').getAttribute('lang'), 'en')
        t.equal((await page.title()).endsWith(' – Shop'), 'name' in pages)
        t.same(problems, [], path)
        await page.context().close()
      }
    }
  })

  t.test('the pages lead on without JavaScript', async (t) => {
    const baseUrl = await start(t, {})
    const { page } = await newPage(browser, { baseURL: baseUrl, javaScriptEnabled: false, locale: 'de-AT' })
    await page.goto('/auth/login?return_to=/me')
    await page.getByRole('link', { name: 'Employees' }).click()
    await page.getByRole('link', { name: 'Anderes Konto verwenden' }).click()
    await page.getByRole('heading', { name: 'diese Anwendung hat Ihr Konto nicht angenommen' }).waitFor()
    await page.goto('/auth/logout?return_to=/auth/logged-out')
    await page.getByRole('button', { name: 'Abmelden' }).click()
    await page.getByRole('heading', { name: 'Sie sind abgemeldet' }).waitFor()
    t.match(page.url(), `${baseUrl}/auth/logged-out?state=`)
    await page.getByRole('link', { name: 'Erneut anmelden' }).click()
    await page.getByRole('heading', { name: 'Wie möchten Sie sich anmelden?' }).waitFor()
  })

  t.test('contrast, a visible focus, and a width of 320 pixels, in each language and both themes', async (t) => {
    const baseUrl = await start(t, { name: 'Reisekostenabrechnungsanwendung', logo: LOGO })
    for (const language of LANGUAGES) {
      const { page, problems } = await newPage(browser, {
        baseURL: baseUrl, locale: language, viewport: { width: 320, height: 480 }
      })
      for (const [path] of language === 'en' ? TREES : TREES.slice(1, 3)) {
        await page.goto(path)
        t.equal(await page.locator('html').getAttribute('lang'), language)
        for (const colorScheme of ['light', 'dark'] as const) {
          await page.emulateMedia({ colorScheme })
          const where = `${path} ${language} ${colorScheme}`
          const { scheme, text, border, focus, width } = await page.evaluate(MEASURE) as Measures
          t.equal(scheme, colorScheme, where)
          t.ok(text >= 4.5, `${where}: text ${text}`)
          t.ok(border >= 3, `${where}: border ${border}`)
          t.same(focus, ['solid', '3px', true], where)
          t.equal(width, 320, `${where}: nothing to scroll to the side`)
        }
      }
      t.same(problems, [])
      await page.context().close()
    }
  })

  t.test('a theme of the application wins over that of the system', async (t) => {
    for (const [theme, colorScheme] of [['light', 'dark'], ['dark', 'light']] as const) {
      const { page } = await newPage(browser, { baseURL: await start(t, { theme }), colorScheme })
      await page.goto('/auth/logout')
      t.equal(await page.locator('html').evaluate('getComputedStyle(document.documentElement).colorScheme'), theme)
    }
  })

  t.test('the policy lets a rendered page have its own style and script, and nothing else', async (t) => {
    const baseUrl = await start(t, {
      render: ({ title, nonce }) => `<!doctype html><title>x</title>
        <style nonce="${nonce}">h1 { color: rgb(1, 2, 3) }</style><style>h1 { color: rgb(9, 9, 9) }</style><h1>${title}</h1>
        <script nonce="${nonce}">document.title = 'ours'</script><script>document.title = 'theirs'</script>
        <img src="https://tracker.example/x.png" alt="">`
    })
    const { page, problems } = await newPage(browser, { baseURL: baseUrl })
    await page.goto('/auth/logout')
    t.equal(await page.title(), 'ours')
    t.equal(await page.locator('h1').evaluate('getComputedStyle(document.querySelector("h1")).color'), 'rgb(1, 2, 3)')
    t.equal(problems.filter((problem) => problem.includes('Content Security Policy')).length, 3, problems.join('\n'))
  })
})
