import { join } from 'node:path'
import { temporaryFolder } from '../../test/support/own-server.ts'
import { skipWithoutSqlite } from '../../test/support/services.ts'
import type { Fault as Answers } from '../../lib/testing/index.ts'
import type { Cause, Fault } from './fault.ts'
import type { World } from './world.ts'

/** A cause in the provider alone. `then` follows. */
function cause (fault: Answers, others: Partial<Cause> = {}, then: Cause['begin'] = () => {}): Cause {
  return {
    ...others,
    async begin (world) {
      world.provider.fault(fault)
      await then(world)
    },
    end: ({ provider }) => provider.clearFaults()
  }
}

const TOKEN_TTL = 300 // seconds
const ENDED = async ({ advance }: World): Promise<void> => await advance(TOKEN_TTL + 60)

const refreshFaults = ([
  ['429', 'answers 429', { status: 429 }],
  ['hang', 'does not answer', { hang: true }],
  ['reset', 'breaks the connection', { reset: true }]
] as const).map(([name, what, answers]): Fault => ({
  name: `token-${name}`,
  title: `Provider: the token endpoint ${what}, and the access tokens have expired`,
  skip: false,
  provider: { accessTokenTtl: TOKEN_TTL },
  prepare: () => cause({ on: 'token', ...answers }, { also: ['access tokens'] }, ENDED)
}))

const bearer = { audience: 'https://api.example.com' }

export const providerFaults: Fault[] = [
  {
    name: 'metadata-503',
    title: 'Provider: the metadata is answered with 503, and the application restarts',
    skip: skipWithoutSqlite,
    prepare: (t) => cause(
      { on: 'metadata', status: 503 },
      { application: { store: `sqlite:${join(temporaryFolder(t, 'sqlite'), 'oidc.db')}` } },
      async ({ restart }) => await restart()
    )
  },
  {
    name: 'jwks-hang',
    title: 'Provider: the key endpoint does not answer, and the known keys are too old',
    skip: false,
    prepare: () => cause({ on: 'jwks', hang: true }, {}, async ({ advance }) => await advance(900))
  },
  ...refreshFaults,
  {
    name: 'keys-rotated',
    title: 'Provider: the keys change while the key endpoint answers 503',
    skip: false,
    prepare: () => cause(
      { on: 'jwks', status: 503 },
      { application: { plugin: { bearer } as never }, also: ['known tokens', 'new keys'] },
      ({ provider }) => provider.rotateKeys({ keep: true })
    )
  },
  {
    name: 'introspection-429',
    title: 'Provider: the introspection endpoint answers 429',
    skip: false,
    provider: { accessTokenFormat: 'opaque' },
    prepare: () => cause(
      { on: 'introspection', status: 429 },
      { application: { plugin: { bearer: { ...bearer, introspection: true } } as never }, also: ['known tokens', 'new tokens'] }
    )
  }
]
