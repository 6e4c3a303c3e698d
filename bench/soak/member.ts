import { codeIn, describe, isOfProvider } from './world.ts'
import type { Page, TestBrowser } from '../../lib/testing/index.ts'
import type { Entrance } from './entrance.ts'
import type { World } from './world.ts'

/** A user with a browser, and what holds for each answer to one who is logged in. */
export interface Member {
  world: World
  entrance: Entrance
  browser: TestBrowser
  sub: string
  /** When the login began, in milliseconds since the epoch. */
  since: number
}

/** Sends a request of a browser. `undefined`: there was no answer, which must not be. */
export async function attempt ({ ledger }: Pick<World, 'ledger'>, visit: () => Promise<Page>): Promise<Page | undefined> {
  const page = await visit().catch((error: Error) => error)
  const isAnswered = !(page instanceof Error)
  ledger.check('requests without an answer', isAnswered, () => (page as Error).message)
  return isAnswered ? page : undefined
}

/** Checks that the page is there and belongs to this user, as a session does. Returns whether it is so. */
export function isOf ({ world, sub, since }: Member, page: Page | undefined, from: number): boolean {
  if (page === undefined) return false
  const { ledger, timeline } = world
  const example = (): string => `${sub}: ${describe(page)}, ${timeline.describe()}`
  const body = page.status === 200 ? page.json() : {}
  const found: unknown = body.sub ?? body.claims?.sub ?? null
  const isAnonymous = page.status === 401 || page.status === 302 || (page.status === 200 && found === null)
  if (isAnonymous && timeline.excuses(since, 'clock')) {
    ledger.count('sessions that did not count while clocks differed')
    return false
  }
  if (timeline.excuses(from, 'store')) ledger.check('anonymous instead of 503', !isAnonymous, example)
  else ledger.check('lost sessions', !isAnonymous, example)
  if (isAnonymous) return false
  ledger.check('unexpected answers', page.status === 200 || page.status >= 500, example)
  if (page.status === 200) return ledger.check('users with the session of another user', found === sub, example)
  return false
}

/** Whether a login failed because of a fault, which is counted. */
export function isExcusedLogin ({ ledger, timeline }: World, page: Page | undefined, since: number): boolean {
  const excuse = page === undefined
    ? 'there was no answer' // which is counted as such
    : excuseOf(timeline, codeIn(page.text()), since)
  if (excuse !== undefined) ledger.count(`logins refused while ${excuse}`)
  return excuse !== undefined
}

function excuseOf (timeline: World['timeline'], code: string | undefined, since: number): string | undefined {
  if (code === 'FST_OIDC_STORE_UNAVAILABLE' && timeline.excuses(since, 'store')) return 'the store failed'
  if (isOfProvider(code) && timeline.excuses(since, 'login', 'skew')) return 'the provider failed'
  // A callback that is repeated comes with a code or state that the killed process may have used.
  if (timeline.excuses(since, 'connection')) return 'a process was killed'
  if (timeline.excuses(since, 'clock')) return 'clocks differed'
  return undefined
}
