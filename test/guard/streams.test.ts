import { EventEmitter, once } from 'node:events'
import { get } from 'node:http'
import Fastify from 'fastify'
import t from 'tap'
import websocket from '@fastify/websocket'
import { WebSocket } from 'ws'
import oidc from '../../index.ts'
import { sessionCookie, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, optionsFor } from '../support/app.ts'
import type { FastifyInstance } from 'fastify'
import type { IncomingMessage } from 'node:http'
import type { Test } from 'tap'
import type { Provider } from '../../lib/testing/index.ts'

const API = 'https://api.example.com'

interface TestServer {
  app: FastifyInstance
  provider: Provider
  port: number
  handled: string[]
  /** The handler sends the last event after `end`. */
  goOn: EventEmitter<{ end: [] }>
}

async function start (t: Test): Promise<TestServer> {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(async () => await app.close())
  await app.register(websocket)
  await app.register(oidc, optionsFor(provider, { bearer: { audience: API } }))
  const handled: string[] = []
  const goOn = new EventEmitter<{ end: [] }>()
  app.get('/socket', { websocket: true, preHandler: app.oidc.required() }, (socket, { oidcClaims }) => {
    handled.push(oidcClaims?.sub as string)
    socket.send(`hello ${oidcClaims?.sub}`)
  })
  app.get('/events', { preHandler: app.oidc.required() }, async ({ oidcClaims }, reply) => {
    handled.push(oidcClaims?.sub as string)
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream' })
    reply.raw.write(`data: hello ${oidcClaims?.sub}\n\n`)
    await once(goOn, 'end')
    reply.raw.end('data: bye\n\n')
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, provider, port: (app.server.address() as { port: number }).port, handled, goOn }
}

/** Opens the WebSocket. Returns the first message, or the status and headers of the error response. */
async function connect (
  port: number,
  headers: Record<string, string>
): Promise<string | { status: number; headers: IncomingMessage['headers'] }> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/socket`, { headers })
  return await new Promise((resolve, reject) => {
    socket.on('message', (message: Buffer) => {
      resolve(message.toString())
      socket.close()
    })
    socket.on('unexpected-response', (_request, response) => {
      resolve({ status: response.statusCode as number, headers: response.headers })
      response.destroy()
    })
    socket.on('error', reject)
  })
}

t.test('S83 V39 a guard protects a WebSocket like any other route', async (t) => {
  const { app, provider, port, handled } = await start(t)
  const cookie = sessionCookie(app)
  const token = `Bearer ${provider.accessToken({ sub: 'bob', overrides: { aud: API } })}`
  t.match(await connect(port, {}), { status: 401, headers: { 'www-authenticate': /^Bearer / } })
  t.match(
    await connect(port, { cookie, origin: 'https://evil.test' }),
    { status: 403 },
    'S43 another site can open a WebSocket, and the browser sends the cookie'
  )
  t.match(await connect(port, { cookie }), { status: 403 })
  t.match(await connect(port, { authorization: 'Bearer x' }), {
    status: 401,
    headers: { 'www-authenticate': /invalid_token/ }
  })
  t.same(handled, [], 'V24 no handler ran')
  t.equal(await connect(port, { cookie, origin: BASE_URL }), 'hello alice')
  t.equal(await connect(port, { authorization: token }), 'hello bob')
  t.equal(await connect(port, { authorization: token, origin: 'https://other.example.net' }), 'hello bob')
  t.same(handled, ['alice', 'bob', 'bob'])
})

t.test('a guard protects server-sent events', async (t) => {
  const { app, provider, port, handled, goOn } = await start(t)
  const read = async (headers: Record<string, string>): Promise<[number, string]> => {
    const [response] = (await once(
      get({ port, host: '127.0.0.1', path: '/events', headers: { accept: 'text/event-stream', ...headers } }),
      'response'
    )) as [IncomingMessage]
    const chunks: Buffer[] = []
    for await (const chunk of response) {
      chunks.push(chunk as Buffer)
      goOn.emit('end') // the handler sends the second event after the first one arrived
    }
    return [response.statusCode as number, Buffer.concat(chunks).toString()]
  }
  t.match(await read({}), [401, /FST_OIDC_LOGIN_REQUIRED/])
  t.match(await read({ authorization: 'Bearer x' }), [401, /FST_OIDC_TOKEN/])
  t.same(handled, [])
  t.same(await read({ cookie: sessionCookie(app) }), [200, 'data: hello alice\n\ndata: bye\n\n'])
  t.same(await read({ authorization: `Bearer ${provider.accessToken({ sub: 'bob', overrides: { aud: API } })}` }), [
    200,
    'data: hello bob\n\ndata: bye\n\n'
  ])
})
