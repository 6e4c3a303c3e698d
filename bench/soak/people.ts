import { setTimeout as sleep } from 'node:timers/promises'
import { ORIGIN, SESSION_COOKIE } from './application.ts'
import { codeIn, describe, isUnavailable, keepLoot, openBrowser, pick, setsSession } from './world.ts'
import type { Page, TestBrowser } from '../../lib/testing/index.ts'
import type { Never } from './ledger.ts'
import type { Need } from './weather.ts'
import type { Process, World } from './world.ts'

/** People who log in, look around, and log out. */

interface Person {
  world: World
  process: Process
  browser: TestBrowser
  sub: string
}

const MOST_BYTES = 8000 // of cookies
const HOSTILE_RETURN = [
  'https://evil.test/', '//evil.test', '/\\evil.test', '/.//evil.test', '/%2e//evil.test',
  'javascript:alert(1)', '/\t/evil.test'
]
let people = 0

/** One person after the other. */
export async function bePeople (world: World): Promise<void> {
  while (!world.isOver()) {
    const process = pick(world.processes)
    people += 1
    await pick(LIVES)({ world, process, browser: openBrowser(process), sub: `person-${people}` })
  }
}

type Life = (person: Person) => Promise<void>

const LIVES: Life[] = [ordinary, ordinary, ordinary, hurried, hurried, withTabs, forgetful, impatient, misled]

async function ordinary (person: Person): Promise<void> {
  if (!await logIn(person, `/login-as?sub=${person.sub}`)) return
  for (let steps = 0; steps < 12 && !person.world.isOver(); steps++) {
    await sleep(Math.random() * 900)
    if (!await pick(STEPS)(person)) return
  }
  await logOut(person)
}

async function hurried (person: Person): Promise<void> {
  if (await logIn(person, `/login-as?sub=${person.sub}`) && await me(person)) await logOut(person)
}

/** Three tabs log in at once. */
async function withTabs (person: Person): Promise<void> {
  const tabs = await Promise.all([1, 2, 3].map(async () => await logIn(person, `/login-as?sub=${person.sub}`)))
  if (tabs.every(Boolean) && await me(person)) await logOut(person)
}

/** Begins many logins and finishes the last. */
async function forgetful (person: Person): Promise<void> {
  for (let count = 0; count < 15; count++) {
    await attempt(person, async () => await person.browser.step('/auth/login?return_to=/somewhere'))
  }
  person.world.ledger.count('logins left open', 15)
  if (await logIn(person, `/login-as?sub=${person.sub}`)) await me(person)
}

/** Sends the callback several times at once. */
async function impatient (person: Person): Promise<void> {
  const { world, browser, sub } = person
  const from = Date.now()
  world.ledger.count('logins begun')
  const page = await attempt(
    person,
    async () => await browser.goto(`/login-as?sub=${sub}`, { until: ({ pathname }) => pathname === '/auth/callback' })
  )
  if (page?.location === undefined) return notLoggedIn(person, from, page)
  const callback = page.location
  const answers = await Promise.all(
    [1, 2, 3].map(async () => await attempt(person, async () => await browser.clone().step(callback)))
  )
  const sessions = answers.filter((answer) => answer?.history.some(({ setCookie }) => setsSession(setCookie)))
  if (sessions.length > 1) world.ledger.wrong('callbacks used twice', `${sessions.length} sessions of one callback`)
  if (sessions.length === 0) {
    notLoggedIn(
      person,
      from,
      answers.find((answer) => answer !== undefined && answer.status >= 400)
    )
  } else world.ledger.count('logins completed')
}

/** Follows a link to the login that somebody else has made. */
async function misled (person: Person): Promise<void> {
  await logIn(person, `/auth/login?return_to=${encodeURIComponent(pick(HOSTILE_RETURN))}`)
}

/** From a page to the provider and back; says whether there is a session then. */
async function logIn (person: Person, path: string): Promise<boolean> {
  const { world, process, browser } = person
  const from = Date.now()
  world.ledger.count('logins begun')
  const page = await attempt(person, async () => await browser.goto(path))
  const hop = page?.history.find(({ setCookie }) => setsSession(setCookie))
  if (browser.cookies.bytes() > MOST_BYTES) {
    world.ledger.wrong('cookies over 8,000 bytes', `${browser.cookies.bytes()} bytes`)
  }
  if (page === undefined || hop === undefined || page.status >= 500) {
    notLoggedIn(person, from, page)
    return false
  }
  world.ledger.count('logins completed')
  const url = new URL(hop.url)
  if (url.pathname === '/auth/callback') {
    keepLoot(process, { cookie: hop.sent['cookie'] ?? '', callback: url.pathname + url.search })
  }
  return true
}

function notLoggedIn ({ world }: Person, from: number, page: Page | undefined): void {
  if (isUnavailable(codeIn(page?.text() ?? '')) && world.weather.wasBad('login', from, Date.now())) {
    world.ledger.count('logins refused while the provider failed')
  } else {
    world.ledger.wrong(
      'lost logins',
      `${page === undefined ? 'no answer' : describe(page)}, ${world.weather.describe()}`
    )
  }
}

type Step = (person: Person) => Promise<boolean>

const STEPS: Step[] = [me, me, me, maybe, save, session, token, userinfo]

async function me (person: Person): Promise<boolean> {
  return await look(person, '/me')
}

async function maybe (person: Person): Promise<boolean> {
  return await look(person, '/maybe')
}

async function save (person: Person): Promise<boolean> {
  return isOf(person, await attempt(person, async () => await person.browser.fetch('/me', { method: 'POST' })))
}

async function session (person: Person): Promise<boolean> {
  return await look(person, '/auth/session')
}

/** The token of three requests at once, which may need a refresh. */
async function token (person: Person): Promise<boolean> {
  const answers = await Promise.all([1, 2, 3].map(async () => await look(person, '/token', 'token')))
  return answers.every(Boolean)
}

async function userinfo (person: Person): Promise<boolean> {
  return await look(person, '/auth/userinfo', 'userinfo')
}

async function look (person: Person, path: string, need?: Need): Promise<boolean> {
  const from = Date.now()
  const page = await attempt(person, async () => await person.browser.fetch(path))
  const refused =
    page !== undefined &&
    page.status >= 500 &&
    need !== undefined &&
    person.world.weather.wasBadForAny(from, Date.now())
  return refused || isOf(person, page)
}

/** The page must be there, and be of this person. */
function isOf (person: Person, page: Page | undefined): boolean {
  if (page === undefined) return false
  const body = page.status === 200 ? page.json() : {}
  const sub = body.sub ?? body.claims?.sub
  if (page.status === 401 || (page.status === 200 && sub === null)) note(person, 'lost sessions', page)
  else if (page.status === 200 && sub !== person.sub) note(person, 'mixed-up people', page)
  else if (page.status !== 200) note(person, 'unexpected answers', page)
  return page.status === 200 && sub === person.sub
}

async function logOut (person: Person): Promise<void> {
  const before = person.browser.clone()
  const page = await attempt(person, async () => await person.browser.post('/auth/logout'))
  if (page === undefined) return
  person.world.ledger.count('logouts')
  if (page.status !== 200 || page.url !== `${ORIGIN}/` || person.browser.cookies.get(SESSION_COOKIE) !== undefined) {
    note(person, 'unexpected answers', page)
  }
  const copied = await attempt(person, async () => await before.fetch('/me'))
  if (copied?.status === 200) note(person, 'sessions after their logout', copied)
}

function note ({ world, sub }: Person, kind: Never, page: Page): void {
  world.ledger.wrong(kind, `${sub}: ${describe(page)}, ${world.weather.describe()}`)
}

async function attempt ({ world }: Person, visit: () => Promise<Page>): Promise<Page | undefined> {
  try {
    return await visit()
  } catch (error) {
    world.ledger.wrong('requests without an answer', (error as Error).message)
    return undefined
  }
}
