import { createServer } from 'node:http'
import { connect } from 'node:net'
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import type { IncomingMessage } from 'node:http'

/** A forward proxy on a free port of 127.0.0.1. */
export interface Proxy {
  url: string
  /** The targets of the tunnels, `host:port`, oldest first. */
  targets: string[]
  close (): Promise<void>
}

export interface ProxyOptions {
  /** The required `Proxy-Authorization` header. Default: none. */
  authorization?: string
  /** Host names that only the proxy resolves: to 127.0.0.1. */
  names?: string[]
}

/** Starts a proxy that only tunnels (CONNECT). */
export async function startProxy ({ authorization, names = [] }: ProxyOptions = {}): Promise<Proxy> {
  const targets: string[] = []
  const sockets = new Set<Socket>()
  const isAllowed = (request: IncomingMessage): boolean =>
    authorization === undefined || request.headers['proxy-authorization'] === authorization

  function tunnel (request: IncomingMessage, socket: Socket): void {
    if (!isAllowed(request)) return socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n') as unknown as void
    targets.push(request.url as string)
    const { hostname, port } = new URL(`http://${request.url}`)
    const target = connect(Number(port), names.includes(hostname) ? '127.0.0.1' : hostname, () => {
      socket.write('HTTP/1.1 200 Connection Established\r\n\r\n')
      target.pipe(socket).pipe(target)
    })
    for (const end of [socket, target]) {
      sockets.add(end)
      end
        .on('error', () => end.destroy())
        .on('close', () => {
          socket.destroy()
          target.destroy()
          sockets.delete(end)
        })
    }
  }

  const server = createServer((_request, response) => {
    response.writeHead(405).end()
  })
    .on('connect', tunnel)
    .listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    targets,
    async close () {
      for (const socket of sockets) socket.destroy()
      server.close().closeAllConnections()
      await once(server, 'close')
    }
  }
}
