import { OidcError } from '../errors.ts'
import { hookError } from '../http/run-hook.ts'
import { LateError } from '../util/at-most.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Constraints } from './constraints.ts'
import type { GuardHandler } from '../../types/fastify.ts'

/** The error because of which a request may not pass. `undefined`: it may. */
export type Decision = OidcError | undefined

/** Decides about a request, and answers nothing. Most requests are decided at once, without a promise. */
export type Decide = (request: FastifyRequest) => Decision | Promise<Decision>

/** Answers a request that may not pass. Returns the error, or `undefined` when the request continues. */
export type Settle = (decision: Decision, request: FastifyRequest, reply: FastifyReply) => Promise<Decision>

/**
 * Adds the check of the application, which is asked last. What it throws is an error of the application; one that does
 * not end is an outage.
 */
export function withPredicate (decide: Decide, { predicate }: Pick<Constraints, 'predicate'>): Decide {
  if (predicate === undefined) return decide
  return async (request) => {
    const problem = await decide(request)
    if (problem !== undefined || request.oidcClaims === null) return problem
    try {
      if (await predicate(request.oidcClaims, request) === true) return undefined
    } catch (error) {
      if (error instanceof LateError) return hookError('check', error)
      throw error
    }
    return new OidcError('FST_OIDC_FORBIDDEN', { detail: 'the check of the guard did not return true' })
  }
}

/** Until then, Fastify would answer with the error, and change the status of the answer that is on its way. */
async function waitUntilSent (reply: FastifyReply): Promise<void> {
  await new Promise<unknown>((resolve) => { reply.then(() => resolve(undefined), resolve) })
}

/** What a guard does for the route of a request. */
export interface Steps {
  decide: Decide
  settle: Settle
}

/**
 * Fastify logs each error that a handler throws after the answer. The plugin has answered with this error and logged it
 * already, so this line is left out.
 */
function logOnce (reply: FastifyReply, refused: OidcError): void {
  const { log } = reply
  const error = (...parameters: unknown[]): void => {
    const { err } = Object(parameters[0]) as { err?: unknown }
    if (err !== refused) Reflect.apply(log.error, log, parameters)
  }
  reply.log = new Proxy(log, {
    get (target, name) {
      if (name === 'error') return error
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) as unknown : value
    }
  })
}

/**
 * A preHandler. Called without `done`, it returns a promise, so that a handler can await it. `stepsFor` returns
 * `undefined` where the guard leaves out the route; `passed` is called for each other request that may pass.
 *
 * Only `done` without an error, or the fulfilled promise, lets a request through. A promise of the reply is no
 * substitute: it is also fulfilled when the client closes the connection, and the handler would run.
 */
export function createHandler (
  stepsFor: (request: FastifyRequest, isAwaited: boolean) => Steps | undefined,
  passed: (request: FastifyRequest, reply: FastifyReply) => void
): GuardHandler {
  async function settled (
    decision: Decision | Promise<Decision>,
    { settle }: Steps,
    request: FastifyRequest,
    reply: FastifyReply
  ): Promise<Decision> {
    const refused = await settle(await decision, request, reply)
    if (refused === undefined) passed(request, reply)
    return refused
  }

  async function pass (request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const steps = stepsFor(request, true)
    if (steps === undefined) return
    const refused = await settled(steps.decide(request), steps, request, reply)
    if (refused === undefined) return
    await waitUntilSent(reply)
    logOnce(reply, refused)
    throw refused
  }

  function handler (request: FastifyRequest, reply: FastifyReply): Promise<void>
  function handler (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void
  function handler (
    request: FastifyRequest,
    reply: FastifyReply,
    done?: (error?: Error) => void
  ): Promise<void> | undefined {
    if (done === undefined) return pass(request, reply)
    const steps = stepsFor(request, false)
    if (steps === undefined) {
      done()
      return
    }
    const decision = steps.decide(request)
    if (decision === undefined) {
      passed(request, reply)
      done()
      return
    }
    settled(decision, steps, request, reply).then((refused) => { if (refused === undefined) done() }, done)
  }
  return handler
}
