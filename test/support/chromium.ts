import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { chromium, type Browser } from 'playwright-core'

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

/** Starts the browser, with its background requests to the Internet switched off. */
export async function launchChromium (): Promise<Browser> {
  if (executablePath === undefined) throw new Error('no Chromium in PATH, and CHROMIUM does not name one')
  return await chromium.launch({
    executablePath,
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'
    ]
  })
}
