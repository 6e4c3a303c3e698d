import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'

/**
 * Finds a free port. It is below the range from which systems choose the port for port 0 (RFC 6335, section 6: from
 * 49152; Linux: from 32768), so that no server that starts on port 0 gets it in the meantime.
 */
export async function freePort (): Promise<number> {
  const port = randomInt(20_000, 32_768)
  const server = createServer().listen(port, '127.0.0.1')
  try {
    await once(server, 'listening')
  } catch {
    return await freePort()
  }
  server.close()
  await once(server, 'close')
  return port
}

/** Whether a server listens on this port. */
export async function isListening (port: number): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port })
  const reached = await once(socket, 'connect').then(() => true, () => false)
  socket.destroy()
  return reached
}
