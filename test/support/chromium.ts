import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { chromium } from 'playwright-core'
import type { Browser, BrowserContext, LaunchOptions } from 'playwright-core'
import type { Test } from 'tap'

const names = ['chromium', 'chromium-browser', 'google-chrome']

/** Finds the browser: that of the variable CHROMIUM, or the first in PATH. */
function findChromium ({ CHROMIUM, PATH = '' }: NodeJS.ProcessEnv): string | undefined {
  const places = PATH.split(delimiter).flatMap((folder) => names.map((name) => join(folder, name)))
  return CHROMIUM ?? places.find((place) => existsSync(place))
}

const executablePath = findChromium(process.env)

/** Why browser tests are skipped, or `false`. With OIDC_TEST_ALL=1 they run, and fail when there is no browser. */
export const skipWithoutChromium: string | false =
  executablePath === undefined &&
  process.env.OIDC_TEST_ALL !== '1' &&
  'no Chromium in PATH, and CHROMIUM does not name one'

const optionsFor = (executablePath: string, more: string[] = []): LaunchOptions => ({
  executablePath,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', ...more
  ]
})

/** Starts the browser, with its background requests to the Internet switched off. */
export async function launchChromium (args: string[] = []): Promise<Browser> {
  if (executablePath === undefined) throw new Error('no Chromium in PATH, and CHROMIUM does not name one')
  return await chromium.launch(optionsFor(executablePath, args))
}

/**
 * Starts a browser with a profile of its own, which takes all cookies, those of the page that the user opened, or none.
 */
export async function openProfile (t: Test, { cookies }: { cookies: 'all' | 'first-party' | 'none' }): Promise<BrowserContext> {
  const folder = mkdtempSync(join(tmpdir(), 'fastify-oidc-'))
  t.teardown(() => { rmSync(folder, { recursive: true, force: true, maxRetries: 5 }) })
  const profile = {
    cookie_controls_mode: cookies === 'first-party' ? 1 : 0,
    block_third_party_cookies: cookies === 'first-party',
    default_content_setting_values: { cookies: cookies === 'none' ? 2 : 1 }
  }
  mkdirSync(join(folder, 'Default'))
  writeFileSync(join(folder, 'Default/Preferences'), JSON.stringify({ profile }))
  const context = await chromium.launchPersistentContext(folder, {
    ...optionsFor(executablePath as string), ignoreHTTPSErrors: true
  })
  t.teardown(async () => await context.close())
  return context
}
