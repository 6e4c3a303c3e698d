import Fastify from 'fastify'
import oidc from '../../index.ts'
import { startClock } from '../../lib/testing/clock.ts'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { OidcOptions } from '../../index.ts'

// One process of an application. It does what the parent process orders, so that several tests can use it.

export interface Orders {
  /** Builds an application with these options, and answers with its port. */
  build: OidcOptions
  /** Closes the application that listens on this port. */
  close: number
  /** Moves the clock of the process by so many seconds. */
  advance: number
  /** Answers with the number of requests to this path that have begun. */
  count: string
}

export interface Order {
  id: number
  order: { [Name in keyof Orders]: [Name, Orders[Name]] }[keyof Orders]
}

const clock = startClock()
const begun: string[] = []
const apps = new Map<number, FastifyInstance>()

async function build (options: OidcOptions): Promise<number> {
  const app = Fastify({ forceCloseConnections: true, logger: { level: 'warn' } })
  app.addHook('onRequest', async ({ url }) => { begun.push(url) })
  await app.register(oidc, options)
  app.get('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims, oidcUser, oidcSession }) => ({
    sub: oidcClaims?.sub,
    user: oidcUser,
    session: oidcSession
  }))
  app.post('/user', async (request) => {
    await app.oidc.updateUser(request, request.body as object)
    return 'changed'
  })
  app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  apps.set(port, app)
  return port
}

async function obey ([name, value]: Order['order']): Promise<number | undefined> {
  if (name === 'build') return await build(value)
  if (name === 'close') return await apps.get(value)?.close()
  if (name === 'count') return begun.filter((url) => url === value).length
  clock.advance(value)
  return undefined
}

process.on('message', async ({ id, order }: Order) => {
  process.send?.({ id, answer: await obey(order) })
})
process.send?.({ id: 0 })
