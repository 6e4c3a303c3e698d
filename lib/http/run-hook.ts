import type { FastifyReply } from 'fastify'

/**
 * Runs a hook of the application, and says whether it answered the request itself.
 * `reply.sent` alone does not tell: it is true only when the response has been written, which other hooks may delay.
 */
export async function runHook<T> (
  reply: FastifyReply,
  hook: () => T
): Promise<{ result: Awaited<T>; replied: boolean }> {
  const send = reply.send
  let replied = false
  reply.send = function (payload) {
    replied = true
    return send.call(this, payload)
  }
  try {
    const result = await hook()
    return { result, replied: replied || reply.sent }
  } finally {
    reply.send = send
  }
}
