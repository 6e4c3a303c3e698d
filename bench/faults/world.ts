import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { startClock, startProvider } from '../../lib/testing/index.ts'
import { remoteApp } from '../../test/support/processes.ts'
import { until } from '../../test/support/until.ts'
import { startChild } from '../child.ts'
import { TENANT } from './tenant.ts'
import {
  AUDIENCE, accessTokens, api, backchannelLogout, endedSessions, logIn, logins, logout, newUser, pages
} from './streams.ts'
import type { Injectable, Provider } from '../../lib/testing/index.ts'
import type { Teardown } from '../../test/support/app.ts'
import type { Child } from '../child.ts'
import type { ApplicationOptions } from './application.ts'
import type { Cause, Fault } from './fault.ts'
import type { Ledger } from './ledger.ts'
import type { Site, Stream, StreamName, Token, User } from './streams.ts'

/** A provider, the processes of an application, and its users. */
export interface World {
  provider: Provider
  processes: Child[]
  /** Moves the clocks of all: of the provider, the browsers and the application. */
  advance: (seconds: number) => Promise<void>
  /** Starts the application anew, in the same process. */
  restart: () => Promise<void>
  /** Lets the users do what they do all the time. */
  startTraffic: () => Promise<void>
  /** Lets some users log out, now. */
  startLogouts: () => void
  stop: () => void
}

/** The application once, behind a load balancer. */
interface Balanced extends Site {
  options: ApplicationOptions
  ports: number[]
}

/** How many users look at pages all the time, in each site. */
const READERS = 3

const MODES = [{ name: 'store', store: true }, { name: 'cookies', store: false }] as const

export async function createWorld (t: Teardown, fault: Fault, cause: Cause, ledger: Ledger): Promise<World> {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const provider = await startProvider({
    accessTokenFormat: 'jwt',
    accessTokenAudience: AUDIENCE,
    refreshTokens: 'always',
    approve: ({ login_hint: sub }) => sub,
    ...fault.provider
  })
  t.teardown(async () => await provider.close())
  const processes = Array.from({ length: cause.processes ?? 1 }, () => startChild('faults/application', 'any'))
  t.teardown(async () => await Promise.all(processes.map(async ({ kill }) => await kill())))
  const sites = MODES.map(({ name, store }) => siteOf(provider, cause, name, store))
  await Promise.all(sites.map(listen))
  const leaving: Array<[Site, User[]]> = []
  const traffic = { isOver: false }

  async function listen (site: Balanced): Promise<void> {
    site.ports = await Promise.all(processes.map(async ({ ask }) => await ask<number>('listen', site.options)))
  }

  /** Sends a request every now and then, whether the one before was answered or not. */
  async function run ({ name, what, every, width, ask }: Stream): Promise<void> {
    const state = { onTheirWay: 0, isDone: false }
    const send = async (): Promise<void> => {
      const sentAt = performance.now()
      state.onTheirWay++
      const got = await ask()
      state.onTheirWay--
      if (traffic.isOver) return
      if (got !== 'done') return ledger.note({ ...got, stream: name, what, sentAt, answeredAt: performance.now() })
      state.isDone = true
      ledger.finish(name)
    }
    for (; !traffic.isOver && !state.isDone; await sleep(every)) if (state.onTheirWay < width) send()
  }

  /** Two sessions: the user ends the one, and the provider the other. */
  async function leavers (site: Site): Promise<User[]> {
    return await Promise.all([newUser(site), newUser(site)])
  }

  function logOut (site: Site, [first, second]: User[]): Stream[] {
    return [logout(site, first as User), backchannelLogout(site, second as User)]
  }

  /** Ends sessions before the fault. */
  async function endSome (site: Site): Promise<void> {
    const logouts = logOut(site, await leavers(site))
    await until(async () => (await Promise.all(logouts.map(async ({ ask }) => await ask()))).every((got) => got === 'done'))
  }

  async function streamsOf (site: Site): Promise<Stream[]> {
    const readers: User[] = []
    for (let count = 0; count < READERS; count++) readers.push(await newUser(site))
    const [first] = readers as [User]
    return [
      ...readers.map((user) => pages(site, user)),
      logins(site),
      ...marksAreLost(site) ? [] : [endedSessions(site)],
      ...await Promise.all((cause.also ?? []).map(async (name) => await OTHERS[name](site, first)))
    ]
  }

  return {
    provider,
    processes,

    async advance (seconds) {
      clock.advance(seconds)
      await Promise.all(processes.map(async ({ ask }) => await ask('advance', seconds)))
    },

    // The former one goes on with what is on its way, and gets no more.
    async restart () {
      await Promise.all(sites.map(listen))
    },

    async startTraffic () {
      for (const site of sites) {
        await endSome(site)
        leaving.push([site, await leavers(site)])
        for (const stream of await streamsOf(site)) run(stream)
      }
    },

    startLogouts () {
      for (const [site, users] of leaving) for (const stream of logOut(site, users)) run(stream)
    },

    stop: () => { traffic.isOver = true }
  }
}

/** The marks of logouts are all that ends a session in cookies. */
function marksAreLost ({ cause, name }: Site): boolean {
  return cause.sessions === 'are lost' && name === 'cookies'
}

/** What only some faults concern. */
const OTHERS: Record<StreamName, (site: Site, user: User) => Promise<Stream>> = {
  'access tokens': async (site, user) => accessTokens(site, user),
  'known tokens': async (site, user) => {
    const { token } = await tokenOf(user)
    return api(site, 'known tokens', 100, async () => ({ sub: user.sub, token }))
  },
  'new tokens': async (site) => api(site, 'new tokens', 400, async () => {
    const { user, page } = await logIn(site)
    if (page.status !== 200) return { verdict: page.status === 503 ? 'unavailable' : 'wrong', shown: `${page.status} to a login` }
    return await tokenOf(user)
  }),
  'new keys': async (site, { sub }) => api(site, 'new keys', 200, async () => {
    return { sub, token: site.provider.accessToken({ sub, overrides: { aud: AUDIENCE } }) }
  })
}

async function tokenOf ({ sub, browser }: User): Promise<Token> {
  const { token } = (await browser.fetch('/token')).json() as { token: string }
  return { sub, token }
}

function siteOf (provider: Provider, cause: Cause, name: string, isStored: boolean): Balanced {
  const baseUrl = `http://${name}.localhost`
  const hasTenants = cause.application?.functions?.includes('resolveProvider')
  const site: Balanced = {
    name,
    baseUrl,
    backchannel: `${baseUrl}/auth/${hasTenants ? `${TENANT}/` : ''}backchannel-logout`,
    provider,
    cause,
    ports: [],
    ended: [],
    app: balance(() => site.ports),
    options: {
      ...cause.application,
      plugin: {
        issuer: provider.issuer,
        clientId: 'web',
        clientSecret: provider.clients[0]?.client_secret as string,
        baseUrl,
        allowInsecureLoopback: true,
        session: { key: randomBytes(32).toString('base64'), store: isStored },
        ...cause.application?.plugin
      }
    }
  }
  // Faults that are not about the store have one in memory for the sessions in it, and none for those in cookies.
  if (isStored) site.options.store ??= 'memory:'
  return site
}

/** Sends requests to one process, and to the next one as soon as it does not listen any more. */
function balance (ports: () => number[]): Injectable {
  let at = 0
  const inject = async (request: object): Promise<unknown> => {
    const port = ports()[at % ports().length] as number
    return await remoteApp(port).inject(request).catch((error: Error) => {
      if (port === ports()[at % ports().length]) at++
      throw error
    })
  }
  return { inject } as Injectable
}
