import { OidcError } from '../errors.ts'
import { isUnsafe } from '../http/fetch-metadata.ts'
import { findViolation } from './constraints.ts'
import type { FastifyRequest } from 'fastify'
import type { OwnOrigin } from '../http/own-origin.ts'
import type { Session } from '../session/session.ts'
import type { Sessions } from '../session/sessions.ts'
import type { Constraints } from './constraints.ts'

export interface SessionCheck {
  /** The session, if it is from one of the guard's providers. Starts its idle time again. */
  find: (constraints: Constraints, request: FastifyRequest) => Session | null
  /** The same, and the session becomes the identity of the request. */
  identify: (constraints: Constraints, request: FastifyRequest) => Session | null
  /** The error for the first constraint that the session violates. */
  findViolation: (constraints: Constraints, request: FastifyRequest, session: Session) => OidcError | undefined
}

export function createSessionCheck (ownOrigin: OwnOrigin, sessions: Sessions): SessionCheck {
  function find ({ providers, accept }: Constraints, request: FastifyRequest): Session | null {
    const session = accept.has('session') ? sessions.read(request) : null
    if (session === null || providers?.(request).includes(session.session.provider) === false) return null
    sessions.touch(request)
    return session
  }

  return {
    find,

    identify (constraints, request) {
      const session = find(constraints, request)
      if (session === null) {
        // An earlier guard with other constraints may have set them.
        request.oidcClaims = request.oidcUser = request.oidcSession = request.oidcToken = null
        return null
      }
      request.oidcClaims = session.claims
      request.oidcUser = session.user
      request.oidcSession = session.session
      request.oidcToken = null
      return session
    },

    findViolation (constraints, request, { session, claims, sources }) {
      // The browser sends the cookie also when another site causes the request.
      if (isUnsafe(request) && !ownOrigin.isOwn(request)) {
        return new OidcError('FST_OIDC_CROSS_SITE', { detail: ownOrigin.describe(request) })
      }
      const { settings } = sessions.provider(request)
      return findViolation(constraints, { session, claims, sources, settings }, request.log)
    }
  }
}
