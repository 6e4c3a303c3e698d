import { setTimeout as sleep } from 'node:timers/promises'
import { ORIGIN, SESSION_COOKIE } from './application.ts'
import { keepStolen } from './entrance.ts'
import { attempt, isExcusedLogin, isOf } from './member.ts'
import { pick } from './pick.ts'
import { HOST, codeIn, describe, isExplained, openBrowser, setsSession } from './world.ts'
import type { Page, TestBrowser } from '../../lib/testing/index.ts'
import type { Member } from './member.ts'
import type { World } from './world.ts'

/** Users who log in, open pages, and log out. */

const MAX_COOKIE_BYTES = 8000
const HOSTILE_RETURN = [
  'https://evil.test/', '//evil.test', '/\\evil.test', '/.//evil.test', '/%2e//evil.test',
  'javascript:alert(1)', '/\t/evil.test'
]
let users = 0

/** A new user, who has not logged in yet. */
export function newMember (world: World, entrance = pick(world.entrances)): Member {
  users += 1
  return { world, entrance, browser: openBrowser(entrance), sub: `user-${users}`, since: Date.now() }
}

/** Runs one user after the other. */
export async function simulateUsers (world: World): Promise<void> {
  const scenarios = world.kind.isSticky ? SCENARIOS : [...SCENARIOS, loggedOutByProvider]
  while (!world.isOver()) await pick(scenarios)(newMember(world))
}

type Scenario = (user: Member) => Promise<void>

const SCENARIOS: Scenario[] = [
  ordinary, ordinary, ordinary, brief, brief, threeTabs, manyOpenLogins, repeatedCallback, hostileReturn
]

async function ordinary (user: Member): Promise<void> {
  if (!await logIn(user)) return
  for (let steps = 0; steps < 12 && !user.world.isOver(); steps++) {
    await sleep(Math.random() * 600)
    if (!await pick(STEPS)(user)) return
  }
  await logOut(user)
}

async function brief (user: Member): Promise<void> {
  if (await logIn(user) && await me(user)) await logOut(user)
}

/** Three tabs log in at once. */
async function threeTabs (user: Member): Promise<void> {
  const tabs = await Promise.all([1, 2, 3].map(async () => await logIn(user)))
  if (tabs.every(Boolean) && await me(user)) await logOut(user)
}

/** Starts many logins and completes only the last. */
async function manyOpenLogins (user: Member): Promise<void> {
  for (let count = 0; count < 15; count++) {
    await attempt(user.world, async () => await user.browser.step('/auth/login?return_to=/somewhere'))
  }
  user.world.ledger.count('logins left open', 15)
  if (await logIn(user)) await me(user)
}

/** Sends the callback several times at once. */
async function repeatedCallback (user: Member): Promise<void> {
  const { world, browser, sub, since } = user
  world.ledger.count('logins started')
  const page = await attempt(
    world,
    async () => await browser.goto(`/login-as?sub=${sub}`, { until: ({ pathname }) => pathname === '/auth/callback' })
  )
  if (page?.location === undefined) return notLoggedIn(user, page)
  const callback = page.location
  const answers = await Promise.all(
    [1, 2, 3].map(async () => await attempt(world, async () => await browser.clone().step(callback)))
  )
  const sessions = answers.filter((answer) => answer?.history.some(({ setCookie }) => setsSession(setCookie)))
  world.ledger.check('callbacks used twice', sessions.length <= 1, () => `${sub}: ${sessions.length} sessions`)
  if (sessions.length > 0) world.ledger.count('logins completed')
  else if (!world.timeline.excuses(since, 'store')) notLoggedIn(user, answers.find((answer) => (answer?.status ?? 0) >= 400))
}

/** Follows an attacker's link to the login. */
async function hostileReturn (user: Member): Promise<void> {
  await logIn(user, `/auth/login?login_hint=${user.sub}&return_to=${encodeURIComponent(pick(HOSTILE_RETURN))}`)
}

/** Goes from a page to the provider and back. Returns whether there is a session then. */
export async function logIn (user: Member, path = `/login-as?sub=${user.sub}`): Promise<boolean> {
  const { world, entrance, browser } = user
  const { ledger } = world
  ledger.count('logins started')
  const page = await attempt(world, async () => await browser.goto(path))
  const hop = page?.history.find(({ setCookie }) => setsSession(setCookie))
  const bytes = browser.cookies.bytes()
  ledger.check('cookies over 8,000 bytes', bytes <= MAX_COOKIE_BYTES, () => `${bytes} bytes`)
  // A tab whose login has lost its place to that of another tab goes on with the session of that one.
  const isIn = hop !== undefined || (page?.status === 200 && page.url === `${ORIGIN}/me` && page.json().sub === user.sub)
  if (!isIn || page?.status !== 200) {
    notLoggedIn(user, page)
    return false
  }
  ledger.check('lost logins', true, String)
  ledger.count('logins completed')
  const { pathname, search } = new URL(hop?.url ?? ORIGIN)
  if (pathname === '/auth/callback') keepStolen(entrance, { cookie: hop?.sent['cookie'] ?? '', callback: pathname + search })
  return true
}

function notLoggedIn ({ world, since }: Member, page: Page | undefined): void {
  if (isExcusedLogin(world, page, since)) return
  world.ledger.check('lost logins', false, () => `${describe(page as Page)}, ${world.timeline.describe()}`)
}

type Step = (user: Member) => Promise<boolean>

const STEPS: Step[] = [me, me, me, maybe, save, session, token, userinfo]

async function me (user: Member): Promise<boolean> {
  return await look(user, '/me')
}

async function maybe (user: Member): Promise<boolean> {
  return await look(user, '/maybe')
}

async function save (user: Member): Promise<boolean> {
  return await look(user, '/me', 'POST')
}

async function session (user: Member): Promise<boolean> {
  return await look(user, '/auth/session')
}

/** Gets the access token in three requests at once, which may need a refresh. */
async function token (user: Member): Promise<boolean> {
  const answers = await Promise.all([1, 2, 3].map(async () => await look(user, '/token')))
  return answers.every(Boolean)
}

async function userinfo (user: Member): Promise<boolean> {
  return await look(user, '/auth/userinfo')
}

/** Opens a page of the user. Returns whether the user still has the session, as far as is known. */
async function look (user: Member, path: string, method = 'GET'): Promise<boolean> {
  const from = Date.now()
  const { ledger, timeline } = user.world
  const page = await attempt(user.world, async () => await user.browser.fetch(path, { method }))
  if (page?.status === 401 && timeline.excuses(user.since, 'connection')) {
    // docs/stores.md, "A crash during a refresh".
    ledger.count('sessions that ended by a kill in the middle of a refresh')
    return false
  }
  const isThere = isOf(user, page, from)
  return isThere || (page !== undefined && isExplained(timeline, page.status, codeIn(page.text()), from))
}

async function logOut (user: Member): Promise<void> {
  const { world, browser } = user
  const from = Date.now()
  const before = browser.cookies.header()
  const page = await attempt(world, async () => await browser.post('/auth/logout'))
  if (page === undefined || isExplained(world.timeline, page.status, codeIn(page.text()), from)) return
  world.ledger.count('logouts')
  const isGone = browser.cookies.get(SESSION_COOKIE) === undefined
  const isRight = page.status === 200 && page.url === `${ORIGIN}/` && isGone
  world.ledger.check('unexpected answers', isRight, () => `${describe(page)}, ${world.timeline.describe()}`)
  if (page.status === 200) await checkEnded(user, before, from)
}

/** The provider ends all sessions of a user who uses two browsers. */
async function loggedOutByProvider (user: Member): Promise<void> {
  const { world, entrance, sub, since } = user
  const { ledger, timeline, kind, provider } = world
  const second = { ...user, browser: openBrowser(entrance) }
  if (!await logIn(user) || !await logIn(second)) return
  const from = Date.now()
  const cookies = [user, second].map(({ browser }) => browser.cookies.header())
  const token = await provider.ask<string>('logoutToken', sub)
  const page = await attempt(world, async () => await postLogout(entrance.injectable, token))
  if (page?.status !== 200) {
    // Every error is a 400 (OpenID Connect Back-Channel Logout 1.0, section 2.8). The provider would try again.
    const isExcused = page === undefined || timeline.excuses(from, 'store', 'login', 'clock')
    if (!isExcused) ledger.check('unexpected answers', false, () => `${describe(page)} ${page.text()}, ${timeline.describe()}`)
    return
  }
  ledger.count('logouts by the provider')
  // docs/operations.md, "Clocks": what a logout by user does not reach while clocks differ.
  if (timeline.excuses(since, kind.hasSessions ? 'clock' : 'skew')) return ledger.count('checks that clocks have prevented')
  await Promise.all(cookies.map(async (cookie) => await checkEnded(user, cookie, from)))
}

async function postLogout (injectable: Member['entrance']['injectable'], token: string): Promise<Page> {
  const browser: TestBrowser = openBrowser({ injectable })
  return await browser.fetch('/auth/backchannel-logout', {
    method: 'POST', body: new URLSearchParams({ logout_token: token }), credentials: 'omit'
  })
}

/** A copy of the cookies works in no process any more. */
async function checkEnded ({ world, entrance, sub }: Member, cookie: string, since: number): Promise<void> {
  const { ledger, timeline, kind } = world
  // Without a store, a process that was killed has forgotten the logout (docs/operations.md, "Clocks").
  if (kind.isSticky && timeline.excuses(since, 'connection')) return ledger.count('checks that a kill has prevented')
  await Promise.all(entrance.processes.map(async ({ send }, index) => {
    const answer = await send({ method: 'GET', url: '/me', headers: { host: HOST, cookie } }).catch(() => undefined)
    if (answer === undefined) return ledger.count('checks that a kill has prevented')
    const isEnded = answer.statusCode !== 200
    ledger.check('sessions after their logout', isEnded, () => `${sub} in process ${index + 1}, ${timeline.describe()}`)
  }))
}
