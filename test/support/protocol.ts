import { client } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor } from './app.ts'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'
import type { Fault, Page, Provider, TestBrowser } from '../../lib/testing/index.ts'
import type { TestApp } from './app.ts'

/** What the tests of the protocol have in common. */

export const CALLBACK = `${BASE_URL}/auth/callback`
export const SESSION_COOKIE = '__Host-oidc'
export const LOGIN_COOKIE = '__Host-oidc-login-'

/** Another application of the same provider, which knows nothing yet, and a browser without cookies. */
export async function anotherApp (t: Test, provider: Provider, options: Partial<OidcOptions> = {}): Promise<TestApp> {
  const app = await buildApp(t, optionsFor(provider, options))
  return { app, provider, browser: client({ app, baseUrl: options.baseUrl ?? BASE_URL }) }
}

export interface Attempt extends TestApp {
  page: Page
}

/** A login from its start to wherever it leads, in a new application, while the provider has the faults. */
export async function attempt (
  t: Test,
  provider: Provider,
  faults: Fault | readonly Fault[] = [],
  options: Partial<OidcOptions> = {}
): Promise<Attempt> {
  const started = await anotherApp(t, provider, options)
  provider.clearRequests()
  const clear = provider.fault(...[faults].flat())
  const page = await started.browser.goto('/auth/login?return_to=/me')
  clear()
  return { ...started, page }
}

/** Goes to log in and stops in front of the callback. */
export async function untilCallback (browser: TestBrowser, path = '/auth/login?return_to=/me'): Promise<URL> {
  const page = await browser.goto(path, { until: ({ href }) => href.startsWith(CALLBACK) })
  return new URL(page.location as string)
}

/** The pending logins in the jar. */
export function loginCookies (browser: TestBrowser): string[] {
  return browser.cookies.list().map(({ name }) => name).filter((name) => name.startsWith(LOGIN_COOKIE))
}

/** The names of the cookies that a page sets, without those that it removes. */
export function cookiesSet ({ headers }: { headers: Headers }): string[] {
  return headers
    .getSetCookie()
    .filter((line) => !/; Max-Age=0;/i.test(line))
    .map((line) => line.split('=', 1)[0] as string)
}

/** The parameters of an authorization request, from the address that the browser is sent to. */
export function authorizationParams ({ location }: { location?: string }): Record<string, string> {
  return Object.fromEntries(new URL(location as string).searchParams)
}

/** The application sees a person. */
export async function assertLoggedIn (t: Test, browser: TestBrowser, sub = 'alice'): Promise<void> {
  const page = await browser.fetch('/me')
  t.equal(page.status, 200, 'the guarded page opens')
  t.equal(page.json().claims?.sub, sub, `for ${sub}`)
}

/** The application sees nobody, and the browser holds nothing that could become a session. */
export async function assertAnonymous (t: Test, browser: TestBrowser): Promise<void> {
  t.notOk(browser.cookies.get(SESSION_COOKIE), 'no session cookie')
  const page = await browser.fetch('/me')
  t.equal(page.status, 401, 'the guarded page asks for a login')
  t.equal(page.json().code, 'FST_OIDC_LOGIN_REQUIRED')
}

/** A page that refuses a login: what it says, what it does not, and what it leaves behind. */
export async function assertRefused (
  t: Test,
  { page, browser, provider }: Omit<Attempt, 'app'>,
  status: number,
  code: string,
  userinfoCalls = 0
): Promise<void> {
  t.equal(page.status, status, `status ${status}`)
  t.match(page.text(), code, code)
  t.match(page.headers.get('content-type'), 'text/html', 'a page for a person')
  t.equal(page.headers.get('cache-control'), 'no-store')
  t.equal(page.headers.get('referrer-policy'), 'no-referrer')
  t.notOk(page.location, 'no redirect')
  t.notOk(
    page.history.flatMap(({ setCookie }) => setCookie).find((line) => line.startsWith(`${SESSION_COOKIE}=`)),
    'no session was set on the way'
  )
  assertNoSecrets(t, page, provider)
  t.equal(provider.count('userinfo'), userinfoCalls, `${userinfoCalls} UserInfo calls`)
  await assertAnonymous(t, browser)
}

/** Nothing that the provider or the browser sent in confidence is on the page. */
export function assertNoSecrets (t: Test, page: Page, { requests }: Provider): void {
  const sent = requests.flatMap(({ query, body }) => [
    query['state'],
    query['nonce'],
    query['code_challenge'],
    body['code'],
    body['code_verifier']
  ])
  const found = [...sent.filter((value) => value !== undefined), 'eyJ'].filter((secret) => page.text().includes(secret))
  t.same(found, [], 'no secret is on the page')
}

/** The text of all log lines of an application, at the level trace. */
export function captureLog (): {
  lines: () => string
  server: { logger: { level: string; stream: { write: (line: string) => void } } }
} {
  const lines: string[] = []
  return {
    lines: () => lines.join(''),
    server: {
      logger: {
        level: 'trace',
        stream: {
          write: (line) => {
            lines.push(line)
          }
        }
      }
    }
  }
}

/** A route that begins a login of the application's own making. */
export function loginRoute (
  app: FastifyInstance,
  path: string,
  options: Parameters<FastifyInstance['oidc']['login']>[2]
): void {
  app.get(path, async (request, reply) => await app.oidc.login(request, reply, options))
}
