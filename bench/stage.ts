import { randomBytes } from 'node:crypto'
import { availableParallelism, cpus } from 'node:os'
import { pinned, startChild, startServer, type Child } from './child.ts'
import type { Case, Kind, Result } from './requests.ts'
import type { ServerOptions } from './servers/serve.ts'
import type { Settings } from './settings.ts'

/** What every measurement needs: a provider, and a driver with sessions and access tokens. */
export interface Stage {
  driver: Child
  provider: Child
  options: ServerOptions
  /** Makes the sessions and access tokens that the cases send. */
  prepare: (cases: Case[]) => Promise<void>
  makeSessions: (sessions: Sessions) => Promise<void>
  /** Remembers how idle the driver was. */
  note: (results: Result[]) => void
  /** Describes the machine and the measurements. */
  conditions: () => string
  close: () => Promise<unknown>
}

/** Sessions that `server` makes when a login begins at `login`. */
export interface Sessions {
  kind: Kind
  count: number
  server?: string
  login?: string
  store?: string
}

export async function openStage (settings: Settings, redis: string): Promise<Stage> {
  const began = Date.now()
  const driver = startChild('driver', 'driver')
  const provider = startChild('provider', 'driver')
  const options: ServerOptions = {
    issuer: await provider.ask<string>('listen'),
    key: randomBytes(32).toString('base64'),
    publicKey: await provider.ask<string>('publicKey')
  }
  const notes: string[] = []

  /** Logs in on both cores. The sessions are measured later, so no process may keep anything of them. */
  async function makeSessions ({ kind, count, server = 'plugin', login, store }: Sessions): Promise<void> {
    const each = Math.ceil(count / 2)
    await Promise.all([each, count - each].filter(Boolean).map(async (half) => {
      const child = startServer(server, 'any')
      const port = await child.ask('listen', { ...options, store })
      const concurrency = settings.loginConcurrency
      await driver.ask('createSessions', { port, login, kind, count: half, concurrency })
      await child.stop()
    }))
    const { distinct, bytes } = await driver.ask<{ distinct: number, bytes: number }>('sessions', kind)
    if (distinct !== count) throw new Error(`${count} logins created ${distinct} sessions`)
    notes.push(`${count} sessions with ${bytes} bytes of cookies`)
  }

  async function makeTokens (count: number): Promise<void> {
    const { issuer } = options
    for (let made = 0; made < count; made += 1000) {
      const tokens = await provider.ask('accessTokens', { issuer, count: Math.min(1000, count - made) })
      await driver.ask('keepTokens', tokens)
    }
  }

  return {
    driver,
    provider,
    options,
    makeSessions,
    async prepare (cases) {
      const most = (kind: string): number => {
        return Math.max(0, ...cases.filter((each) => (each.kind ?? 'cookies') === kind).map(({ sessions }) => sessions))
      }
      if (most('cookies') > 0) await makeSessions({ kind: 'cookies', count: most('cookies') })
      if (most('store') > 0) await makeSessions({ kind: 'store', count: most('store'), store: redis })
      await makeTokens(most('tokens'))
    },
    note (results) {
      const leastIdle = Math.min(...results.flatMap(({ idleShare }) => idleShare))
      notes.push(`driver idle at least ${Math.round(leastIdle * 100)} %`)
    },
    conditions () {
      const { sets, rounds, window, connections } = settings
      return [
        `${new Date().toISOString().slice(0, 10)}, Node ${process.version}, ${cpus()[0]?.model.trim()}, ` +
        `${availableParallelism()} cores, ${pinned ? 'server and driver on one core each' : 'not pinned to cores'}`,
        `medians of ${sets * rounds} rounds of ${window} ms, with quartiles; ${connections} connections; ` +
        [...notes, `${Math.round((Date.now() - began) / 1000)} s in total`].join('; ')
      ].join('\n')
    },
    close: async () => await Promise.all([driver.stop(), provider.stop()])
  }
}
