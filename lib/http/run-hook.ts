import { OidcError } from '../errors.ts'
import { en } from '../pages/languages/en.ts'
import { LateError } from '../util/at-most.ts'
import type { FastifyReply } from 'fastify'

/**
 * Runs a hook of the application, and says whether the hook answered the request. `reply.sent` is not enough:
 * it becomes true only when the response was written, and other hooks may delay that.
 *
 * A hook that fails after its answer has answered all the same: a second answer would damage the first one.
 */
export async function runReplyHook<T> (
  reply: FastifyReply,
  hook: () => T
): Promise<{ result: Awaited<T> | undefined, replied: boolean }> {
  const send = reply.send
  let replied = false
  reply.send = function (payload) {
    replied = true
    return send.call(this, payload)
  }
  try {
    const result = await hook()
    reply.send = send
    return { result, replied: replied || reply.sent }
  } catch (error) {
    reply.send = error instanceof LateError ? discardLate(send) : send
    if (!replied && !reply.sent) throw error
    reply.log.error({ err: error }, 'a hook failed after it had sent the reply')
    return { result: undefined, replied: true }
  }
}

/** What the hook sends when it is too late: Fastify would write the whole address of the request into the log. */
function discardLate (send: FastifyReply['send']): FastifyReply['send'] {
  return function (this: FastifyReply, payload) {
    if (!this.sent) return send.call(this, payload)
    this.log.warn('a hook has sent a reply too late: the request was answered already')
    return this
  }
}

/**
 * Calls a function of the application, whose `name` is for the log. It refuses by an OidcError, which `refuse` makes.
 * Any other error is a fault of the application: FST_OIDC_UNEXPECTED, with the status of an outage if it has one.
 */
export async function callHook<T> (name: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (cause) {
    throw cause instanceof OidcError ? cause : hookError(name, cause)
  }
}

/** The error for a function of the application that has failed. */
export function hookError (name: string, cause: unknown): OidcError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  const advice = cause instanceof LateError ? '' : `. ${TO_REFUSE}`
  const statusCode = outageOf(cause)
  return new OidcError('FST_OIDC_UNEXPECTED', {
    cause,
    detail: `${name} failed: ${reason}${advice}`,
    statusCode,
    message: statusCode === 503 ? en.applicationUnavailable : undefined
  })
}

const TO_REFUSE = 'To refuse a user on purpose, it must throw refuse(\'…\') of fastify-oidc'

/** The status of an error that says that something behind the application fails, such as a 503. */
function outageOf (cause: unknown): number | undefined {
  const { statusCode, status = statusCode } = Object(cause) as { statusCode?: unknown, status?: unknown }
  return Number.isInteger(status) && Number(status) >= 500 && Number(status) <= 599 ? Number(status) : undefined
}
