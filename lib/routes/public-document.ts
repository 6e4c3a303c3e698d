import type { Endpoint } from './index.ts'

/** A document for everybody, scripts of other sites as well, that may be kept for `maxAge` seconds. */
export function publicEndpoint (
  maxAge: number,
  read: () => object | Promise<object>,
  type = 'application/json'
): Endpoint {
  return {
    async GET (_request, reply) {
      const document = await read()
      reply.headers({ 'cache-control': `public, max-age=${maxAge}`, 'access-control-allow-origin': '*' }).type(type)
      return document
    }
  }
}
