import type { FastifyRequest, FastifyReply } from 'fastify'

/** A redirect that no cache keeps, and whose target learns nothing of this address. */
export function redirect (request: FastifyRequest, reply: FastifyReply, url: string): void {
  reply
    .header('cache-control', 'no-store')
    .header('referrer-policy', 'no-referrer')
    .redirect(url, request.method === 'GET' ? 302 : 303)
}
