import { setTimeout as sleep } from 'node:timers/promises'
import { attempt, isOf } from './member.ts'
import { pick } from './pick.ts'
import { logIn, newMember } from './users.ts'
import { openBrowser } from './world.ts'
import type { Member } from './member.ts'
import type { AppProcess } from './processes.ts'
import type { World } from './world.ts'

/** Users who stay logged in for the whole run: their sessions must survive every fault. */
export interface Panel {
  /** Its users open pages all the time, also while something is broken. */
  browse: (world: World) => Promise<void>
  /** Waits until a session from before is accepted by every process. Returns how long that took, in milliseconds. */
  untilSessionsCount: () => Promise<number>
  /** Waits until a user can log in at every process. */
  untilLoginsWork: () => Promise<number>
  /** Each session is there, in every process. */
  check: () => Promise<void>
}

const MEMBERS = 8
const PAUSE = 50 // milliseconds
/** How long a recovery may take where other work shares the cores, in milliseconds. */
export const LIMIT = 60_000

export async function gatherPanel (world: World): Promise<Panel> {
  const { entrances } = world
  const members: Member[] = []
  // A login may meet the last moments of the start.
  while (members.length < MEMBERS * entrances.length) {
    const member = newMember(world, entrances[members.length % entrances.length])
    if (await logIn(member)) members.push(member)
    else await sleep(PAUSE)
  }

  async function untilAll (hasRecovered: (process: AppProcess, member: Member) => Promise<boolean>): Promise<number> {
    const from = performance.now()
    await Promise.all(entrances.flatMap(({ processes }, index) => processes.map(async (process) => {
      while (!await hasRecovered(process, members[index] as Member)) {
        if (performance.now() - from > LIMIT) return
        await sleep(PAUSE)
      }
    })))
    return performance.now() - from
  }

  async function checkAt ({ entrance, browser, sub, world }: Member): Promise<void> {
    await Promise.all(entrance.processes.map(async (process) => {
      const from = Date.now()
      const page = await send(process, browser.cookies.header()).catch(() => undefined)
      isOf({ world, entrance, browser, sub, since: from }, page, from)
    }))
  }

  async function open ({ entrance, browser, sub, world }: Member): Promise<void> {
    const from = Date.now()
    const path = pick(['/me', '/maybe', '/auth/session'])
    const page = await attempt(world, async () => await browser.fetch(path))
    isOf({ world, entrance, browser, sub, since: from }, page, from)
  }

  return {
    async browse ({ isOver }) {
      while (!isOver()) {
        await open(pick(members))
        await sleep(PAUSE)
      }
    },
    untilSessionsCount: async () => await untilAll(async (process, { browser }) =>
      await send(process, browser.cookies.header()).then(({ status }) => status === 200, () => false)),
    untilLoginsWork: async () => await untilAll(async (process) => {
      const browser = openBrowser({ injectable: { inject: process.send } as never })
      return await browser.goto('/login-as?sub=a-probe').then(({ status }) => status === 200, () => false)
    }),
    async check () {
      for (const member of members) await checkAt(member)
    }
  }

  async function send (process: AppProcess, cookie: string) {
    return await openBrowser({ injectable: { inject: process.send } as never }).fetch('/me', { headers: { cookie } })
  }
}
