import Fastify from 'fastify'
import oidc from '../../index.ts'
import type { AddressInfo } from 'node:net'

// One of several processes of an application. Its options come as JSON; it tells its port.

const app = Fastify({ forceCloseConnections: true })
await app.register(oidc, JSON.parse(process.argv[2] as string))
app.get('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims, oidcSession }) => ({
  sub: oidcClaims?.sub,
  session: oidcSession
}))
app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
await app.listen({ port: 0, host: '127.0.0.1' })
console.log((app.server.address() as AddressInfo).port)
