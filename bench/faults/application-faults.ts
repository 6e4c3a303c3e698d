import { join } from 'node:path'
import { temporaryFolder } from '../../test/support/own-server.ts'
import { skipWithoutSqlite } from '../../test/support/services.ts'
import { until } from '../../test/support/until.ts'
import type { Cause, Fault } from './fault.ts'
import type { World } from './world.ts'

/** Makes the functions of the application fail, or work again. */
const fail = (value: boolean) => async ({ processes }: World): Promise<void> => {
  for (const { ask } of processes) await ask('fail', value)
}

/** The clock of the application alone: that of the provider is right. */
function clockSetBack (seconds: number): Cause {
  return {
    begin: async ({ processes: [process] }) => await process?.ask('advance', -seconds),
    end: async ({ processes: [process] }) => await process?.ask('advance', seconds)
  }
}

export const applicationFaults: Fault[] = [
  {
    name: 'hook-hangs',
    title: 'Application: `onClaims` never returns (`hookTimeout: 2`)',
    skip: false,
    prepare: () => ({
      application: { functions: ['onClaims'], plugin: { hookTimeout: 2 } as never },
      begin: fail(true),
      end: fail(false)
    })
  },
  {
    name: 'resolve-throws',
    title: 'Application: `resolveProvider` throws',
    skip: false,
    prepare: () => ({ application: { functions: ['resolveProvider'] }, begin: fail(true), end: fail(false) })
  },
  {
    name: 'kill-9',
    title: 'One of two processes is killed (`kill -9`) while it refreshes a token',
    skip: skipWithoutSqlite,
    provider: { accessTokenTtl: 300 },
    prepare: (t) => ({
      application: { store: `sqlite:${join(temporaryFolder(t, 'sqlite'), 'oidc.db')}` },
      processes: 2,
      also: ['access tokens'],
      breaksConnections: true,
      async begin ({ provider, processes: [doomed], advance }) {
        provider.clearRequests()
        provider.fault({ on: 'token', hang: true, times: 1, when: ({ body }) => body['grant_type'] === 'refresh_token' })
        await advance(280) // the tokens are due, and still good
        await until(() => provider.requests.some(({ body }) => body['grant_type'] === 'refresh_token'))
        await doomed?.kill()
      }
    })
  },
  {
    name: 'clock-back',
    title: 'The clock of the application is set back by 25 seconds',
    skip: false,
    prepare: () => clockSetBack(25)
  },
  {
    name: 'clock-far-back',
    title: 'The clock of the application is set back by an hour, and put right',
    skip: false,
    prepare: () => ({ ...clockSetBack(3600), sessions: 'do not count', refusesLoginsWith: 403 })
  }
]
