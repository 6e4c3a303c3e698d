import { sendJson } from '../http/send-json.ts'
import type { Endpoint } from './endpoint.ts'

/** A public document, also for scripts of other sites. Caches may keep it for `maxAge` seconds. */
export function publicDocument (
  maxAge: number,
  read: () => object | Promise<object>,
  type = 'application/json'
): Endpoint {
  return {
    async GET (_request, reply) {
      const document = await read()
      reply.headers({ 'cache-control': `public, max-age=${maxAge}`, 'access-control-allow-origin': '*' })
      return sendJson(reply, document, type)
    }
  }
}
