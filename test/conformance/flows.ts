import assert from 'node:assert/strict'
import { BASE_URL } from '../support/app.ts'
import { CALLBACK } from './party.ts'
import type { OidcErrorCode } from '../../index.ts'
import type { Endpoint, Fault, Page, TestBrowser } from '../../lib/testing/index.ts'
import type { RunModule } from './module.ts'
import type { Party, Setup } from './party.ts'

type Run = RunModule['run']
type Faults = Fault | readonly Fault[]

/** A module whose provider gives no reason to refuse the login. */
export function accepts (faults: Faults = [], setup: Setup = {}, check: (party: Party) => void = () => {}): Run {
  return async (start) => {
    const party = await start(setup)
    party.provider.fault(faults)
    const happened = await logIn(party)
    check(party)
    return happened
  }
}

export interface Refusal {
  code: OidcErrorCode
  /** How many requests the token endpoint gets. Default: 1. */
  token?: number
  /** How many requests UserInfo gets. Default: 0. */
  userinfo?: number
}

/** A module whose provider gives a reason to refuse the login. Without the fault, a second login succeeds. */
export function refuses (faults: Faults, refusal: Refusal, setup: Setup = {}): Run {
  return async (start) => {
    const party = await start(setup)
    const off = party.provider.fault(faults)
    const happened = await beRefused(party, refusal)
    off()
    await logIn(party)
    return happened
  }
}

/** Logs in, also with a session. Checks that the browser arrives with a session and that UserInfo is called. */
export async function logIn (party: Party): Promise<string> {
  const count = counter(party)
  const page = await party.browser.goto('/auth/login?return_to=/me')
  assert.equal(page.status, 200, `the login ends with ${page.status}${reason(party)}`)
  assert.equal(page.url, `${BASE_URL}/me`, `the login ends at ${page.url}`)
  checkCallback(page, party)
  const { claims, user } = page.json() as { claims: { sub?: unknown }; user: { sub?: unknown } | null }
  assert.deepEqual(
    [claims.sub, user?.sub],
    ['alice', 'alice'],
    'the session has the claims of the ID token and those of UserInfo'
  )
  assert.deepEqual(
    [count('authorize'), count('token'), count('userinfo')],
    [1, 1, 1],
    'one request each to authorize, token and UserInfo'
  )
  return 'logged in, UserInfo was called'
}

/** Starts a login that must fail: an error page, no session, and no request after the wrong response. */
export async function beRefused (party: Party, refusal: Refusal, path = '/me'): Promise<string> {
  const count = counter(party)
  const page = await party.browser.goto(path)
  const { token = 1, userinfo = 0, code } = refusal
  const seen = `${requests(count('token'), 'token')} and ${requests(count('userinfo'), 'UserInfo')}${reason(party)}`
  assert.deepEqual([count('token'), count('userinfo')], [token, userinfo], `${seen}, not ${token} and ${userinfo}`)
  checkCallback(page, party)
  checkErrorPage(page, party, code)
  const happened = `${code}${reason(party)}; ${requests(token, 'token')}, ${requests(userinfo, 'UserInfo')}, no session`
  await checkLoggedOut(party)
  return happened
}

/** Checks that the page shows what went wrong. */
export function checkErrorPage (page: Page, { errors }: Party, code: OidcErrorCode): void {
  assert.ok(page.status >= 400, `an error is shown, not status ${page.status}`)
  assert.equal(errors.at(-1)?.code, code, `refused with ${errors.at(-1)?.code}, not ${code}`)
  assert.match(page.headers.get('content-type') ?? '', /^text\/html/, 'the error is a page')
  assert.ok(page.text().includes(code), 'the page has the error code')
}

/** Checks that there is no session: the guarded page starts a login. */
export async function checkLoggedOut ({ browser, provider }: Party): Promise<void> {
  assert.ok(!hasSession(browser), 'no session cookie')
  assert.equal((await browser.fetch('/me')).status, 401, 'a script gets 401')
  const next = await browser.goto('/me', { until: ({ origin }) => origin === provider.url })
  assert.ok(next.location?.startsWith(`${provider.issuer}/authorize?`), '/me starts a login')
}

export function hasSession ({ cookies }: TestBrowser): boolean {
  return cookies.list(BASE_URL).some(({ name }) => name === '__Host-oidc' || name.startsWith('__Host-oidc-tokens'))
}

/** Returns a function that counts the requests of an endpoint from now on. */
export function counter ({ provider }: Party): (endpoint: Endpoint) => number {
  const before = provider.requests.length
  return (endpoint) => provider.requests.slice(before).filter((request) => request.endpoint === endpoint).length
}

function checkCallback ({ history }: Page, { responseMode }: Party): void {
  const calls = history.filter(({ url }) => url.split('?', 1)[0] === CALLBACK)
  assert.deepEqual(
    calls.map(({ method }) => method),
    [responseMode === 'form_post' ? 'POST' : 'GET'],
    'the callback is called once, in the requested response mode'
  )
}

/** The reason of the last error: that of the innermost cause, because the plugin wraps the errors of libraries. */
function reason ({ errors }: Party): string {
  const error = errors.at(-1)
  const text = error?.cause === undefined ? error?.detail : innermost(error.cause)
  return text === undefined ? '' : ` (${text.slice(0, 100)})`
}

function innermost (cause: unknown): string {
  const deeper = cause instanceof Error ? cause.cause : undefined
  return deeper instanceof Error ? innermost(deeper) : String((cause as Error).message)
}

function requests (count: number, endpoint: string): string {
  return `${count === 0 ? 'no' : count} ${endpoint} request${count > 1 ? 's' : ''}`
}
