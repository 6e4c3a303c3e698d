import { OidcError } from '../errors.ts'
import { findViolation } from './constraints.ts'
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { Bearer } from './bearer.ts'
import type { Constraints } from './constraints.ts'
import type { Decide, Decision } from './proceed.ts'
import type { VerifiedToken } from './verified-token.ts'

/** Decides about a request by its access token. */
export function createTokenCheck ({ known, verify }: Bearer, constraints: Constraints): Decide {
  function decide (verified: VerifiedToken, request: FastifyRequest): Decision {
    request.oidcClaims = verified.claims
    request.oidcToken = verified.token
    // An earlier guard may have accepted a session, which need not be of the same user.
    request.oidcUser = request.oidcSession = null
    return findTokenViolation(constraints, verified, request.log)
  }

  return (request) => {
    const verified = constraints.providers === undefined ? known(request) : undefined
    if (verified !== undefined) return decide(verified, request)
    return verify(request, constraints).then(
      (verified) => decide(verified, request),
      (error: OidcError) => error
    )
  }
}

function findTokenViolation (
  constraints: Constraints,
  { claims, token, provider: { settings } }: VerifiedToken,
  log: FastifyBaseLogger
): Decision {
  const { isClient } = token
  // A client is not a user: a route for users must not accept it as one (RFC 9700, section 4.15).
  if (!constraints.accept.has(isClient ? 'client' : 'bearer')) {
    const detail = isClient
      ? 'the token is of a client, not of a user; "accept" with client lets it in'
      : 'the token is of a user, not of a client; if it is of a client, name that client in "bearer.clients"'
    return new OidcError('FST_OIDC_FORBIDDEN', { detail })
  }
  return findViolation(constraints, { session: token, claims, settings }, log)
}
