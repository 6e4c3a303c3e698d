import { OidcError } from '../errors.ts'
import type { FastifyReply } from 'fastify'

/**
 * Runs a hook of the application, and says whether the hook answered the request. `reply.sent` is not enough:
 * it becomes true only when the response was written, and other hooks may delay that.
 */
export async function runReplyHook<T> (
  reply: FastifyReply,
  hook: () => T
): Promise<{ result: Awaited<T>, replied: boolean }> {
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

/** Calls a function of the application. An error in it becomes FST_OIDC_CLAIMS; `name` is for the log. */
export async function callHook<T> (name: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (cause) {
    if (cause instanceof OidcError) throw cause
    const reason = cause instanceof Error ? cause.message : 'refused'
    throw new OidcError('FST_OIDC_CLAIMS', { cause, detail: `${name}: ${reason}` })
  }
}
