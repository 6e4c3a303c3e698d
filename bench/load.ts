import { connect, type Socket } from 'node:net'

export interface Load {
  /**
   * `completed`: responses so far. `refused`: those without status 200. `turns`: turns of the event loop. `idle`: those
   * in which no response arrived.
   */
  counts(): { completed: number, refused: number, turns: number, idle: number }
  stop(): void
}

/** Returns the next request of an endless series. */
export type Requests = () => Buffer

export interface LoadOptions {
  port: number
  connections: number
  requests: Requests
  /** Whether the driver never sleeps. */
  awake: boolean
}

const separator = '\r\n\r\n'
const contentLength = /\r\ncontent-length: (\d+)/i

/**
 * Sends requests over keep-alive connections, one at a time on each. Requests are prepared buffers on raw sockets, and
 * of responses only length and status are read. So the driver costs the same for every case and far less than the
 * server. With `awake` it never sleeps: to wake it up would cost the server time, and more for slow responses.
 */
export function startLoad ({ port, connections, requests, awake }: LoadOptions): Load {
  const counts = { completed: 0, refused: 0, turns: 0, idle: 0 }
  const count = (ok: boolean) => {
    counts.completed += 1
    if (!ok) counts.refused += 1
  }
  const sockets = Array.from({ length: connections }, () => open(port, requests, count))
  const stopTurning = awake ? stayAwake(counts) : () => {}
  const stop = () => {
    stopTurning()
    sockets.forEach(socket => socket.destroy())
  }
  return { counts: () => ({ ...counts }), stop }
}

function stayAwake (counts: ReturnType<Load['counts']>): () => void {
  let next: NodeJS.Immediate
  let seen = 0
  const turn = () => {
    counts.turns += 1
    if (counts.completed === seen) counts.idle += 1
    seen = counts.completed
    next = setImmediate(turn)
  }
  turn()
  return () => clearImmediate(next)
}

/** One request for each header, repeated in the same order. Without headers, always the same request. */
export function takeTurns (path: string, lines: string[]): Requests {
  const start = `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1`
  const headers = lines.length === 0 ? [''] : lines.map(line => `\r\n${line}`)
  const requests = headers.map(header => Buffer.from(`${start}${header}${separator}`, 'latin1'))
  let turn = -1
  return () => {
    turn = (turn + 1) % requests.length
    return requests[turn] as Buffer
  }
}

function open (port: number, next: Requests, count: (ok: boolean) => void): Socket {
  const buffer = Buffer.allocUnsafe(65536)
  const read = reader(ok => {
    count(ok)
    socket.write(next())
  })
  const onread = { buffer, callback: (size: number) => read(buffer.subarray(0, size)) }
  const socket = connect({ port, host: '127.0.0.1', noDelay: true, onread }, () => socket.write(next()))
  return socket.on('error', error => { throw error })
}

/** Calls back once for each complete response, which nearly always is one chunk. */
function reader (respond: (ok: boolean) => void): (chunk: Buffer) => boolean {
  let partial: Buffer | null = null
  return chunk => {
    const response: Buffer = partial === null ? chunk : Buffer.concat([partial, chunk])
    const complete = response.length >= lengthOf(response)
    partial = complete ? null : Buffer.from(response)
    if (complete) respond(response.toString('latin1', 9, 12) === '200')
    return true
  }
}

function lengthOf (response: Buffer): number {
  const end = response.indexOf(separator)
  if (end === -1) return Infinity
  const length = contentLength.exec(response.toString('latin1', 0, end))?.[1]
  return end + separator.length + Number(length)
}
