import { once, setMaxListeners } from 'node:events'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import { takeFaults } from './active-faults.ts'
import { isRefusal, refusal } from './answer.ts'
import { receive } from './receive.ts'
import { dispatch } from './routes.ts'
import { blank, deform, send, skipsEndpoint } from './transport.ts'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Answer } from './answer.ts'
import type { Context, Exchange } from './context.ts'
import type { ProviderOptions } from './options.ts'

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

/** Handles one request, until its last byte is sent. */
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

// `closeAllConnections` does not include connections that are still in the TLS handshake
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
  setMaxListeners(0, closing.signal) // each delayed response adds a listener
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
