import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { answer } from '../answer.ts'
import type { AddressInfo, Socket } from 'node:net'

/** A way to the server of a store that can break, in its own process. */

/** How long each chunk waits, in milliseconds. `Infinity`: nothing passes, and no side hears of it. */
let delay = 0
let isOpen = true
const ends = new Set<Socket>()

/** Passes chunks on, in their order. A connection on which one was lost stays silent. */
function pass (from: Socket, to: Socket): void {
  let last: Promise<unknown> = Promise.resolve()
  let isSilent = false
  from.on('data', (chunk) => {
    isSilent ||= delay === Infinity
    if (isSilent) return
    const due = performance.now() + delay
    last = last.then(async () => {
      const rest = due - performance.now()
      if (rest > 0) await sleep(rest)
      to.write(chunk)
    })
  })
  from.on('close', () => to.destroy())
}

function accept (socket: Socket, target: number): void {
  if (!isOpen) {
    socket.destroy()
    return
  }
  const upstream = connect({ port: target, host: '127.0.0.1', noDelay: true })
  for (const [end, other] of [[socket, upstream], [upstream, socket]] as const) {
    ends.add(end)
    end.on('error', () => {}).on('close', () => { ends.delete(end) })
    pass(end, other)
  }
}

function cut (): void {
  for (const end of ends) end.destroy()
}

answer({
  /** Returns the port from which connections lead to `target`. */
  async listen (target: number): Promise<number> {
    const server = createServer({ noDelay: true }, (socket) => accept(socket, target)).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  },
  cut,
  /** Ends all connections and refuses new ones. */
  refuse () {
    isOpen = false
    cut()
  },
  slow: (milliseconds: number) => { delay = milliseconds },
  silence: () => { delay = Infinity },
  mend () {
    isOpen = true
    delay = 0
  }
})
