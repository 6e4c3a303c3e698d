// An application that uses the types of the package. `.ci/run` compiles it with several compilers and settings.
import Fastify from 'fastify'
import oidc, { OidcError } from 'fastify-oidc'
import { createMemoryStore } from 'fastify-oidc/store/memory'
import { createPostgresStore } from 'fastify-oidc/store/postgres'
import { createRedisStore } from 'fastify-oidc/store/redis'
import { createSqliteStore } from 'fastify-oidc/store/sqlite'
import { client, startProvider } from 'fastify-oidc/testing'
import { pino } from 'pino'
import type { FastifyTypeProvider } from 'fastify'
import type { Oidc, OidcOptions, Store } from 'fastify-oidc'
import type { MemoryStoreOptions } from 'fastify-oidc/store/memory'
import type { TestBrowser } from 'fastify-oidc/testing'

declare module 'fastify-oidc' {
  interface OidcUser { sub: string, size: number, id: string }
}

export const options: OidcOptions = {
  issuer: 'https://id.example.com',
  clientId: 'web',
  baseUrl: 'https://app.example.com',
  session: { secret: 'x'.repeat(32) },
  prefix: '/v1',
  onClaims: async ({ sub }, { tokens, request }) => ({ sub, size: tokens.access_token.length, id: request.id })
}

export async function plain (): Promise<void> {
  const app = Fastify()
  await app.register(oidc, options)
  app.addHook('onRequest', app.oidc.optional())
  app.get('/me', { preHandler: app.oidc.required({ roles: 'admin' }) }, async (request, reply) => {
    await app.oidc.authenticate(request)
    const sub: string | undefined = request.oidcClaims?.sub
    const size: number | undefined = request.oidcUser?.size
    // @ts-expect-error it is a text
    const wrong: number = request.oidcSession?.id
    return await app.oidc.login(request, reply, { returnTo: `${String(sub)}${String(wrong)}${String(size)}` })
  })
  // @ts-expect-error not an option of a guard
  app.oidc.required({ role: 'admin' })
}

export async function http2 (): Promise<void> {
  const app = Fastify({ http2: true })
  await app.register(oidc, options)
  app.addHook('onRequest', app.oidc.optional())
  app.get('/me', { preHandler: [app.oidc.required()] }, async (request, reply) => {
    await app.oidc.authenticate(request)
    await app.oidc.logout(request, reply)
  })
}

export async function logged (): Promise<void> {
  const app = Fastify({ loggerInstance: pino() })
  await app.register(oidc, options)
  app.addHook('preValidation', app.oidc.optional())
  app.get('/me', { preHandler: app.oidc.required() }, async (request) => await app.oidc.accessToken(request))
}

interface Provider extends FastifyTypeProvider {
  validator: this['schema']
}

export async function typed (): Promise<void> {
  const app = Fastify().withTypeProvider<Provider>()
  await app.register(oidc, options)
  const { required }: Oidc = app.oidc
  app.get('/me', { schema: {}, preHandler: required() }, async (request, reply) => {
    await required()(request, reply)
    return await app.oidc.userinfo(request)
  })
}

export async function stores (): Promise<Store[]> {
  const memory: MemoryStoreOptions = { max: 10 }
  // @ts-expect-error not an option
  createMemoryStore({ size: 10 })
  return [
    createMemoryStore(memory),
    await createSqliteStore({ path: ':memory:' }),
    await createPostgresStore({ url: 'postgres://127.0.0.1' }),
    await createRedisStore({ url: 'redis://127.0.0.1' })
  ]
}

export async function kit (): Promise<TestBrowser> {
  const provider = await startProvider()
  // @ts-expect-error not an option
  await startProvider({ nonsense: true })
  const app = Fastify()
  await app.register(oidc, { ...options, issuer: provider.issuer })
  return client({ app, baseUrl: 'https://app.example.com' })
}

export function codeOf (error: unknown): string | undefined {
  if (!(error instanceof OidcError)) return undefined
  // @ts-expect-error not one of the codes
  if (error.code === 'FST_OIDC_NONSENSE') return undefined
  const refused: OidcError = error
  return refused.code
}
