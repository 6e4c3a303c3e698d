import { setTimeout as sleep } from 'node:timers/promises'
import { ORIGIN, SESSION_COOKIE } from './application.ts'
import { codeIn, describe, isUnavailable, keepStolen, openBrowser, pick, setsSession } from './world.ts'
import type { Page, TestBrowser } from '../../lib/testing/index.ts'
import type { Never } from './ledger.ts'
import type { Need } from './outages.ts'
import type { Process, World } from './world.ts'

/** Users who log in, open pages, and log out. */

interface User {
  world: World
  process: Process
  browser: TestBrowser
  sub: string
}

const MAX_COOKIE_BYTES = 8000
const HOSTILE_RETURN = [
  'https://evil.test/', '//evil.test', '/\\evil.test', '/.//evil.test', '/%2e//evil.test',
  'javascript:alert(1)', '/\t/evil.test'
]
let users = 0

/** Runs one user after the other. */
export async function simulateUsers (world: World): Promise<void> {
  while (!world.isOver()) {
    const process = pick(world.processes)
    users += 1
    await pick(SCENARIOS)({ world, process, browser: openBrowser(process), sub: `user-${users}` })
  }
}

type Scenario = (user: User) => Promise<void>

const SCENARIOS: Scenario[] = [
  ordinary, ordinary, ordinary, brief, brief, threeTabs, manyOpenLogins, repeatedCallback, hostileReturn
]

async function ordinary (user: User): Promise<void> {
  if (!await logIn(user, `/login-as?sub=${user.sub}`)) return
  for (let steps = 0; steps < 12 && !user.world.isOver(); steps++) {
    await sleep(Math.random() * 900)
    if (!await pick(STEPS)(user)) return
  }
  await logOut(user)
}

async function brief (user: User): Promise<void> {
  if (await logIn(user, `/login-as?sub=${user.sub}`) && await me(user)) await logOut(user)
}

/** Three tabs log in at once. */
async function threeTabs (user: User): Promise<void> {
  const tabs = await Promise.all([1, 2, 3].map(async () => await logIn(user, `/login-as?sub=${user.sub}`)))
  if (tabs.every(Boolean) && await me(user)) await logOut(user)
}

/** Starts many logins and completes only the last. */
async function manyOpenLogins (user: User): Promise<void> {
  for (let count = 0; count < 15; count++) {
    await attempt(user, async () => await user.browser.step('/auth/login?return_to=/somewhere'))
  }
  user.world.ledger.count('logins left open', 15)
  if (await logIn(user, `/login-as?sub=${user.sub}`)) await me(user)
}

/** Sends the callback several times at once. */
async function repeatedCallback (user: User): Promise<void> {
  const { world, browser, sub } = user
  const from = Date.now()
  world.ledger.count('logins started')
  const page = await attempt(
    user,
    async () => await browser.goto(`/login-as?sub=${sub}`, { until: ({ pathname }) => pathname === '/auth/callback' })
  )
  if (page?.location === undefined) return notLoggedIn(user, from, page)
  const callback = page.location
  const answers = await Promise.all(
    [1, 2, 3].map(async () => await attempt(user, async () => await browser.clone().step(callback)))
  )
  const sessions = answers.filter((answer) => answer?.history.some(({ setCookie }) => setsSession(setCookie)))
  if (sessions.length > 1) world.ledger.wrong('callbacks used twice', `one callback created ${sessions.length} sessions`)
  if (sessions.length === 0) {
    notLoggedIn(
      user,
      from,
      answers.find((answer) => answer !== undefined && answer.status >= 400)
    )
  } else world.ledger.count('logins completed')
}

/** Follows an attacker's link to the login. */
async function hostileReturn (user: User): Promise<void> {
  await logIn(user, `/auth/login?return_to=${encodeURIComponent(pick(HOSTILE_RETURN))}`)
}

/** Goes from a page to the provider and back. Returns whether there is a session then. */
async function logIn (user: User, path: string): Promise<boolean> {
  const { world, process, browser } = user
  const from = Date.now()
  world.ledger.count('logins started')
  const page = await attempt(user, async () => await browser.goto(path))
  const hop = page?.history.find(({ setCookie }) => setsSession(setCookie))
  if (browser.cookies.bytes() > MAX_COOKIE_BYTES) {
    world.ledger.wrong('cookies over 8,000 bytes', `${browser.cookies.bytes()} bytes`)
  }
  if (page === undefined || hop === undefined || page.status >= 500) {
    notLoggedIn(user, from, page)
    return false
  }
  world.ledger.count('logins completed')
  const url = new URL(hop.url)
  if (url.pathname === '/auth/callback') {
    keepStolen(process, { cookie: hop.sent['cookie'] ?? '', callback: url.pathname + url.search })
  }
  return true
}

function notLoggedIn ({ world }: User, from: number, page: Page | undefined): void {
  if (isUnavailable(codeIn(page?.text() ?? '')) && world.outages.wasBad('login', from, Date.now())) {
    world.ledger.count('logins refused while the provider failed')
  } else {
    world.ledger.wrong(
      'lost logins',
      `${page === undefined ? 'no answer' : describe(page)}, ${world.outages.describe()}`
    )
  }
}

type Step = (user: User) => Promise<boolean>

const STEPS: Step[] = [me, me, me, maybe, save, session, token, userinfo]

async function me (user: User): Promise<boolean> {
  return await look(user, '/me')
}

async function maybe (user: User): Promise<boolean> {
  return await look(user, '/maybe')
}

async function save (user: User): Promise<boolean> {
  return isOf(user, await attempt(user, async () => await user.browser.fetch('/me', { method: 'POST' })))
}

async function session (user: User): Promise<boolean> {
  return await look(user, '/auth/session')
}

/** Gets the access token in three requests at once, which may need a refresh. */
async function token (user: User): Promise<boolean> {
  const answers = await Promise.all([1, 2, 3].map(async () => await look(user, '/token', 'token')))
  return answers.every(Boolean)
}

async function userinfo (user: User): Promise<boolean> {
  return await look(user, '/auth/userinfo', 'userinfo')
}

async function look (user: User, path: string, need?: Need): Promise<boolean> {
  const from = Date.now()
  const page = await attempt(user, async () => await user.browser.fetch(path))
  const refused =
    page !== undefined &&
    page.status >= 500 &&
    need !== undefined &&
    user.world.outages.wasBadForAny(from, Date.now())
  return refused || isOf(user, page)
}

/** Checks that the page is there and belongs to this user. */
function isOf (user: User, page: Page | undefined): boolean {
  if (page === undefined) return false
  const body = page.status === 200 ? page.json() : {}
  const sub = body.sub ?? body.claims?.sub
  if (page.status === 401 || (page.status === 200 && sub === null)) note(user, 'lost sessions', page)
  else if (page.status === 200 && sub !== user.sub) note(user, 'users with the session of another user', page)
  else if (page.status !== 200) note(user, 'unexpected answers', page)
  return page.status === 200 && sub === user.sub
}

async function logOut (user: User): Promise<void> {
  const before = user.browser.clone()
  const page = await attempt(user, async () => await user.browser.post('/auth/logout'))
  if (page === undefined) return
  user.world.ledger.count('logouts')
  if (page.status !== 200 || page.url !== `${ORIGIN}/` || user.browser.cookies.get(SESSION_COOKIE) !== undefined) {
    note(user, 'unexpected answers', page)
  }
  const copied = await attempt(user, async () => await before.fetch('/me'))
  if (copied?.status === 200) note(user, 'sessions after their logout', copied)
}

function note ({ world, sub }: User, kind: Never, page: Page): void {
  world.ledger.wrong(kind, `${sub}: ${describe(page)}, ${world.outages.describe()}`)
}

async function attempt ({ world }: User, visit: () => Promise<Page>): Promise<Page | undefined> {
  try {
    return await visit()
  } catch (error) {
    world.ledger.wrong('requests without an answer', (error as Error).message)
    return undefined
  }
}
