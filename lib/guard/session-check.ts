import { OidcError } from '../errors.ts'
import { isSameOrigin, isUnsafe } from '../http/fetch-metadata.ts'
import { findViolation } from './constraints.ts'
import type { FastifyRequest } from 'fastify'
import type { Settings } from '../options/settings.ts'
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

export function createSessionCheck (
  { origin, session: { trustedOrigins } }: Settings,
  sessions: Sessions
): SessionCheck {
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
      // The browser sends the cookie also when another site causes the request (security.md S43).
      const isCrossSite = isUnsafe(request) && !isSameOrigin(request, origin, trustedOrigins)
      if (isCrossSite) return new OidcError('FST_OIDC_CROSS_SITE', { detail: describeOrigin(request, origin) })
      const { settings } = sessions.provider(request)
      return findViolation(constraints, { session, claims, sources, settings }, request.log)
    }
  }
}

function describeOrigin ({ method, headers }: FastifyRequest, origin: string): string {
  const { origin: sent = 'none', 'sec-fetch-site': site = 'none', upgrade } = headers
  const what = upgrade === undefined ? `a ${method}` : 'an upgrade'
  return `${what} with Origin ${sent} and Sec-Fetch-Site ${String(site)}; it must come from ${origin} or from one of ` +
    '"session.trustedOrigins"'
}
