import { isNavigation, isPrefetch, isSameOrigin, isUnsafe } from './caller.ts'
import { findProblem, parseConstraints } from './claims.ts'
import { OidcError } from './errors.ts'
import { startLogin } from './login.ts'
import { refuse } from './refuse.ts'
import type { FastifyReply, FastifyRequest, preHandlerAsyncHookHandler } from 'fastify'
import type { Constraints } from './claims.ts'
import type { Core } from './core.ts'
import type { Session } from './session-cookies.ts'
import type { GuardOptions } from '../types/options.ts'

/** Only people who are logged in and meet the constraints get through. */
export function createRequired (core: Core): (options?: GuardOptions) => preHandlerAsyncHookHandler {
  return (options = {}) => {
    const constraints = parseConstraints(options, core.settings.requiredClaims)
    return async function oidcRequired (request, reply) {
      const session = authenticate(core, request)
      const problem = session === null ? new OidcError('FST_OIDC_LOGIN_REQUIRED') : check(core, constraints, request, session)
      if (problem !== undefined) return await turnAway(core, constraints, problem, request, reply)
    }
  }
}

/** Anonymous requests get through as well; a person must meet the constraints. */
export function createOptional (core: Core): (options?: GuardOptions) => preHandlerAsyncHookHandler {
  return (options = {}) => {
    const constraints = parseConstraints(options, core.settings.requiredClaims)
    return async function oidcOptional (request, reply) {
      const session = authenticate(core, request)
      const problem = session === null ? undefined : check(core, constraints, request, session)
      if (problem !== undefined) return await turnAway(core, constraints, problem, request, reply)
    }
  }
}

function authenticate (core: Core, request: FastifyRequest): Session | null {
  const session = core.sessions.read(request)
  if (session === null) return null
  core.sessions.touch(request)
  request.oidcClaims = session.claims
  request.oidcUser = session.user
  request.oidcSession = session.session
  return session
}

function check ({ settings }: Core, constraints: Constraints, request: FastifyRequest, { session, claims }: Session): OidcError | undefined {
  // A browser sends the cookie whoever makes it send the request (security.md S43).
  if (isUnsafe(request) && !isSameOrigin(request, settings.origin, settings.session.trustedOrigins)) return new OidcError('FST_OIDC_CROSS_SITE')
  return findProblem(constraints, session, claims, settings.provider.clockTolerance)
}

/** A person who opens a page is sent to log in where that helps; everybody else gets the error. */
async function turnAway (core: Core, constraints: Constraints, problem: OidcError, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  if (problem.statusCode !== 401 || !isNavigation(request)) return await refuse(core, problem, request, reply)
  if (isPrefetch(request)) return await refuse(core, new OidcError('FST_OIDC_PREFETCH'), request, reply)
  try {
    return await startLogin(core, request, reply, {
      returnTo: core.urls.request(request),
      maxAge: constraints.maxAge,
      acrValues: constraints.acr.length > 0 ? [...constraints.acr] : undefined
    })
  } catch (error) {
    return await refuse(core, error, request, reply)
  }
}
