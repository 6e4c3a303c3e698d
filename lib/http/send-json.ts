import type { FastifyReply } from 'fastify'

/**
 * Sends JSON whose shape a protocol or another program relies on. As text, so that neither a `preSerialization` hook
 * nor a serializer of the application wraps it.
 */
export function sendJson (reply: FastifyReply, value: object, type = 'application/json'): FastifyReply {
  return reply.type(`${type}; charset=utf-8`).send(JSON.stringify(value))
}
