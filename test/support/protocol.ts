import { client } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor } from './app.ts'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'
import type { Fault, Page, Provider, TestBrowser } from '../../lib/testing/index.ts'
import type { TestApp } from './app.ts'

/** Shared functions of the protocol tests. */

export const CALLBACK = `${BASE_URL}/auth/callback`
export const SESSION_COOKIE = '__Host-oidc'
export const LOGIN_COOKIE = '__Host-oidc-login-'

/** A new application of the same provider, with nothing cached, and a browser without cookies. */
export async function anotherApp (t: Test, provider: Provider, options: Partial<OidcOptions> = {}): Promise<TestApp> {
  const app = await buildApp(t, optionsFor(provider, options))
  return { app, provider, browser: client({ app, baseUrl: options.baseUrl ?? BASE_URL }) }
}

export interface Attempt extends TestApp {
  page: Page
}

/** Logs in to a new application while the provider has the faults, and returns the last page. */
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

/** Starts a login and stops before the callback. Returns the URL of the callback. */
export async function untilCallback (browser: TestBrowser, path = '/auth/login?return_to=/me'): Promise<URL> {
  const page = await browser.goto(path, { until: ({ href }) => href.startsWith(CALLBACK) })
  return new URL(page.location as string)
}

/** The names of the cookies of pending logins. */
export function loginCookies (browser: TestBrowser): string[] {
  return browser.cookies.list().map(({ name }) => name).filter((name) => name.startsWith(LOGIN_COOKIE))
}

/** The names of the cookies that a page sets, except those that it removes. */
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

/** Asserts that a user is logged in. */
export async function assertLoggedIn (t: Test, browser: TestBrowser, sub = 'alice'): Promise<void> {
  const page = await browser.fetch('/me')
  t.equal(page.status, 200, 'the guarded page opens')
  t.equal(page.json().claims?.sub, sub, `for ${sub}`)
}

/** Asserts that no user is logged in and that the browser has no session cookie. */
export async function assertAnonymous (t: Test, browser: TestBrowser): Promise<void> {
  t.notOk(browser.cookies.get(SESSION_COOKIE), 'no session cookie')
  const page = await browser.fetch('/me')
  t.equal(page.status, 401, 'the guarded page asks for a login')
  t.equal(page.json().code, 'FST_OIDC_LOGIN_REQUIRED')
}

/** Asserts that a page refuses a login: its status, headers and code, no secret in it, and no session after it. */
export async function assertRefused (
  t: Test,
  { page, browser, provider }: Omit<Attempt, 'app'>,
  status: number,
  code: string,
  userinfoCalls = 0
): Promise<void> {
  t.equal(page.status, status, `status ${status}`)
  t.match(page.text(), code, code)
  t.match(page.headers.get('content-type'), 'text/html', 'an HTML page')
  t.equal(page.headers.get('cache-control'), 'no-store')
  t.equal(page.headers.get('referrer-policy'), 'no-referrer')
  t.notOk(page.location, 'no redirect')
  t.notOk(
    page.history.flatMap(({ setCookie }) => setCookie).find((line) => line.startsWith(`${SESSION_COOKIE}=`)),
    'no session cookie was set by any response'
  )
  assertNoSecrets(t, page, provider)
  t.equal(provider.count('userinfo'), userinfoCalls, `${userinfoCalls} UserInfo calls`)
  await assertAnonymous(t, browser)
}

/** How the header of a JWT begins. Less of it also appears by chance, in what is encrypted. */
export const JWT = /eyJ(?:hbGciOi|0eXAiOi|raWQiOi)/

/** Asserts that the page contains no secret of the provider or the browser. */
export function assertNoSecrets (t: Test, page: Page, { requests }: Provider): void {
  const sent = requests.flatMap(({ query, body }) => [
    query['state'],
    query['nonce'],
    query['code_challenge'],
    body['code'],
    body['code_verifier']
  ])
  const found = sent.filter((value) => value !== undefined && page.text().includes(value))
  t.same(found, [], 'no secret is on the page')
  t.notMatch(page.text(), JWT)
}

/** Captures all log lines of an application, at the level trace. */
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

/** Adds a route that starts a login with `app.oidc.login`. */
export function loginRoute (
  app: FastifyInstance,
  path: string,
  options: Parameters<FastifyInstance['oidc']['login']>[2]
): void {
  app.get(path, async (request, reply) => await app.oidc.login(request, reply, options))
}
