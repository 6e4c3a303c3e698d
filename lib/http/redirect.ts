import type { FastifyReply, FastifyRequest } from 'fastify'

/** A redirect that no cache stores. The browser does not send the current address to the target. */
export function redirect (request: FastifyRequest, reply: FastifyReply, url: string): void {
  reply
    .header('cache-control', 'no-store')
    .header('referrer-policy', 'no-referrer')
    .redirect(url, request.method === 'GET' ? 302 : 303)
}
