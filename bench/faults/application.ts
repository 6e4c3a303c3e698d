import Fastify from 'fastify'
import { Cluster, Redis } from 'ioredis'
import oidc from '../../index.ts'
import { connectionOptions, createRedisStore } from '../../lib/store/redis.ts'
import { startClock } from '../../lib/testing/index.ts'
import { answer } from '../answer.ts'
import { TENANT } from './tenant.ts'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { OidcOptions, ResolvedProvider, Store } from '../../index.ts'

/** One process of an application. It does what `world.ts` asks, so that several faults can use it. */

/** Where the store is: an address, or the ports of servers of Redis that need a client of the application. */
export type Place = string | { sentinel: number } | { cluster: number }

export interface ApplicationOptions {
  plugin: OidcOptions
  store?: Place
  /** Which functions the application has, for `fail`. */
  functions?: ReadonlyArray<'onClaims' | 'resolveProvider'>
}

const HOST = '127.0.0.1'

const clock = startClock()
let fails = false

/** Never returns, once the functions of the application fail. */
async function onClaims (): Promise<void> {
  if (fails) await new Promise(() => {})
}

function resolveProvider ({ issuer, clientId, clientSecret }: OidcOptions): OidcOptions['resolveProvider'] {
  return async () => {
    if (fails) throw new Error('the database of the tenants does not answer')
    return { name: TENANT, issuer, clientId, clientSecret } as ResolvedProvider
  }
}

async function openStore (app: FastifyInstance, place: Place): Promise<Store | string> {
  if (typeof place === 'string') return place
  const client = 'sentinel' in place
    ? new Redis({ sentinels: [{ host: HOST, port: place.sentinel }], name: 'main', ...connectionOptions })
    : new Cluster([{ host: HOST, port: place.cluster }], { redisOptions: connectionOptions })
  client.on('error', () => {}) // each call says it
  app.addHook('onClose', async () => client.disconnect())
  return await createRedisStore({ client })
}

async function optionsFor (
  app: FastifyInstance,
  { plugin, store, functions = [] }: ApplicationOptions
): Promise<OidcOptions> {
  const options = {
    ...plugin,
    ...(store !== undefined && { store: await openStore(app, store) }),
    ...(functions.includes('onClaims') && { onClaims })
  }
  if (!functions.includes('resolveProvider')) return options
  const { issuer: _, clientId: __, clientSecret: ___, ...others } = options
  return { ...others, resolveProvider: resolveProvider(plugin) } as OidcOptions
}

function addPages (app: FastifyInstance): void {
  const guarded = { preHandler: app.oidc.required() }
  app.get('/me', guarded, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
  app.get('/maybe', { preHandler: app.oidc.optional() }, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub ?? null }))
  app.get('/api', guarded, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
  app.get('/token', guarded, async (request) => {
    return { sub: request.oidcClaims?.sub, token: await app.oidc.accessToken(request) }
  })
  app.get<{ Querystring: { sub: string } }>('/login-as', async (request, reply) =>
    await app.oidc.login(request, reply, { returnTo: '/me', authorizationParams: { login_hint: request.query.sub } }))
}

answer({
  /** Builds an application, and returns the port on which it listens. */
  async listen (options: ApplicationOptions) {
    const app = Fastify()
    await app.register(oidc, await optionsFor(app, options))
    addPages(app)
    await app.listen({ port: 0, host: HOST })
    return (app.server.address() as AddressInfo).port
  },
  advance (seconds: number) {
    clock.advance(seconds)
  },
  fail (value: boolean) {
    fails = value
  }
})
