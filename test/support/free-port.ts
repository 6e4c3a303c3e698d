import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

/**
 * A port of this machine that nobody listens on. It lies below those that systems hand out on their own
 * (RFC 6335 section 6: from 49152; Linux: from 32768), so that no server started on port 0 meanwhile gets it.
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
