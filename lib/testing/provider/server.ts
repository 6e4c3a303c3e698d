import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { once, setMaxListeners } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { html, isRefusal, refusal } from './answer.ts'
import { authorize } from './authorize.ts'
import * as endpoints from './endpoints.ts'
import { endSessionEndpoint } from './end-session.ts'
import { takeFaults } from './fault.ts'
import { token } from './grants.ts'
import { findEndpoint, metadata } from './metadata.ts'
import { blank, deform, send, skipsEndpoint } from './transport.ts'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Answer } from './answer.ts'
import type { Context, Exchange } from './context.ts'
import type { Endpoint, ProviderOptions, ProviderRequest } from './types.ts'

interface Route {
  methods: string[]
  handle: (exchange: Exchange) => Answer | Promise<Answer>
}

const read = ['GET', 'HEAD']
const both = ['GET', 'POST']

const routes: Record<Endpoint, Route> = {
  metadata: { methods: read, handle: metadata },
  jwks: { methods: read, handle: endpoints.jwks },
  attacker: { methods: read, handle: endpoints.attacker },
  authorize: { methods: both, handle: authorize },
  token: { methods: ['POST'], handle: token },
  userinfo: { methods: both, handle: endpoints.userinfo },
  end_session: { methods: both, handle: endSessionEndpoint },
  revocation: { methods: ['POST'], handle: endpoints.revocation },
  introspection: { methods: ['POST'], handle: endpoints.introspection },
  par: { methods: ['POST'], handle: endpoints.par },
  device: { methods: ['POST'], handle: endpoints.device },
  device_verification: { methods: ['GET'], handle: endpoints.deviceVerification }
}

const readBody = async (req: IncomingMessage): Promise<string> => {
  const chunks: Buffer[] = []
  for await (const chunk of req) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}

const formFields = (req: IncomingMessage, rawBody: string): URLSearchParams =>
  new URLSearchParams(/^application\/x-www-form-urlencoded\b/i.test(req.headers['content-type'] ?? '') ? rawBody : '')

const certificateName = (req: IncomingMessage): { clientCertificate?: string } => {
  const name = (req.socket as Partial<TLSSocket>).getPeerCertificate?.().subject?.CN
  return name === undefined ? {} : { clientCertificate: `CN=${name}` }
}

interface Received {
  request: ProviderRequest
  duplicate: string | undefined
}

// RFC 6749 section 3.1: no parameter twice; RFC 8707 section 2 excepts `resource`
const findDuplicate = (params: URLSearchParams): string | undefined =>
  [...params.keys()].find((name) => name !== 'resource' && params.getAll(name).length > 1)

const receive = async ({ options, url }: Context, req: IncomingMessage): Promise<Received> => {
  const { pathname, searchParams } = new URL(req.url!, url)
  const rawBody = await readBody(req)
  const fields = formFields(req, rawBody)
  const request: ProviderRequest = {
    endpoint: findEndpoint(options, pathname),
    method: req.method!,
    path: pathname,
    query: Object.fromEntries(searchParams),
    headers: req.headers,
    body: Object.fromEntries(fields),
    rawBody,
    ...certificateName(req)
  }
  return { request, duplicate: findDuplicate(searchParams) ?? findDuplicate(fields) }
}

const dispatch = async (exchange: Exchange, duplicate: string | undefined): Promise<Answer> => {
  const { endpoint, method } = exchange.request
  if (endpoint === 'unknown') return html('<p>Not found</p>', 404)
  const { methods, handle } = routes[endpoint]
  if (!methods.includes(method)) return html('<p>Method not allowed</p>', 405, { allow: methods.join(', ') })
  if (duplicate) return refusal('invalid_request', `"${duplicate}" occurs twice`).answer
  return await handle(exchange)
}

const refused = (error: unknown): Answer => {
  if (isRefusal(error)) return error.answer
  return refusal('server_error', String(error), 500).answer
}

const prepare = async ({ context, request, faults }: Exchange, signal: AbortSignal): Promise<void> => {
  for (const { before, delay } of faults) {
    await before?.(context.provider, request)
    if (delay) await sleep(delay, undefined, { signal })
  }
}

const answerFor = async (exchange: Exchange, duplicate: string | undefined): Promise<Answer> => {
  const answer = skipsEndpoint(exchange.faults) ? blank : await dispatch(exchange, duplicate).catch(refused)
  return exchange.faults.reduce(deform, answer)
}

/** Handles one request from its arrival to its last byte. */
const serve = async (
  context: Context, req: IncomingMessage, res: ServerResponse, signal: AbortSignal
): Promise<void> => {
  const { request, duplicate } = await receive(context, req)
  context.requests.push(request)
  const exchange = { context, request, faults: takeFaults(context.faults, request) }
  await prepare(exchange, signal)
  await send(res, await answerFor(exchange, duplicate), exchange.faults, signal)
}

export interface Listening {
  url: string
  port: number
  close: () => Promise<void>
}

const makeServer = ({ tls }: ProviderOptions): Server => tls ? createTlsServer(tls) : createServer()

// `closeAllConnections` does not know of connections that are still in the TLS handshake
const trackSockets = (server: Server): Set<Socket> => {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  return sockets
}

const stop = async (server: Server, sockets: Set<Socket>): Promise<void> => {
  if (!server.listening) return
  server.close()
  for (const socket of sockets) socket.destroy()
  await once(server, 'close')
}

/** Listens on the loopback interface. */
export const listen = async (options: ProviderOptions, context: () => Context): Promise<Listening> => {
  const closing = new AbortController()
  setMaxListeners(0, closing.signal) // each answer that waits listens
  const server = makeServer(options)
  const sockets = trackSockets(server)
  server.on('request', (req: IncomingMessage, res: ServerResponse) => {
    serve(context(), req, res, closing.signal).catch(() => res.destroy())
  })
  server.listen(options.port ?? 0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const close = (): Promise<void> => {
    closing.abort()
    return stop(server, sockets)
  }
  return { url: `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}`, port, close }
}
