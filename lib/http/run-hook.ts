import type { FastifyReply } from 'fastify'
import { OidcError } from '../errors.ts'

/**
 * Runs a hook of the application, and says whether it answered the request itself.
 * `reply.sent` alone does not tell: it is true only when the response has been written, which other hooks may delay.
 */
export async function runReplyHook<T> (
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

/** Calls a function of the application: what it throws refuses the person. */
export async function callHook<T> (name: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (cause) {
    if (cause instanceof OidcError) throw cause
    throw new OidcError('FST_OIDC_CLAIMS', {
      cause,
      detail: `${name}: ${cause instanceof Error ? cause.message : 'refused'}`
    })
  }
}
