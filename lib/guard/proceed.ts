import { OidcError } from '../errors.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Constraints } from './constraints.ts'
import type { Deny } from './deny.ts'
import type { OidcClaims } from '../../types/claims.ts'

export type Done = (error?: Error) => void

/** A step of a guard: calls `done`, or answers the request. */
export type Step = (request: FastifyRequest, reply: FastifyReply, done: Done) => void

/** The last step of a guard: lets a request without a problem through, and denies every other request. */
export type Proceed = (
  problem: OidcError | undefined,
  request: FastifyRequest,
  reply: FastifyReply,
  done: Done
) => void

// Only `done` without an error lets a request through. A promise of the reply is no substitute: it is also
// fulfilled when the client closes the connection, and Fastify would then call the handler.
export function createProceed ({ predicate }: Pick<Constraints, 'predicate'>, deny: Deny): Proceed {
  const askPredicate = async (request: FastifyRequest, reply: FastifyReply, done: Done): Promise<void> => {
    if ((await predicate?.(request.oidcClaims as OidcClaims, request)) === true) done()
    else await deny(new OidcError('FST_OIDC_FORBIDDEN', { detail: 'the check of the guard did not return true' }), request, reply)
  }

  return (problem, request, reply, done) => {
    if (problem !== undefined) deny(problem, request, reply).catch(done)
    else if (predicate === undefined || request.oidcClaims === null) done()
    else askPredicate(request, reply, done).catch(done)
  }
}
