import { isNavigation, isPrefetch, isSameOrigin, isUnsafe } from './caller.ts'
import { findProblem, parseConstraints } from './claims.ts'
import { OidcError } from './errors.ts'
import { startLogin } from './login.ts'
import { refuse } from './refuse.ts'
import type { FastifyReply, FastifyRequest, preHandlerHookHandler } from 'fastify'
import type { Constraints } from './claims.ts'
import type { Core } from './core.ts'
import type { Session } from './session-cookies.ts'
import type { GuardOptions } from '../types/options.ts'

type Guard = (options?: GuardOptions) => preHandlerHookHandler

/** Only people who are logged in and meet the constraints get through. */
export function createRequired (core: Core): Guard {
  return (options = {}) => {
    const constraints = parseConstraints(options, core.settings.requiredClaims)
    return function oidcRequired (request, reply, done) {
      const session = authenticate(core, request)
      const problem = session === null ? new OidcError('FST_OIDC_LOGIN_REQUIRED') : check(core, constraints, request, session)
      proceed(core, constraints, problem, request, reply, done)
    }
  }
}

/** Anonymous requests get through as well; a person must meet the constraints. */
export function createOptional (core: Core): Guard {
  return (options = {}) => {
    const constraints = parseConstraints(options, core.settings.requiredClaims)
    return function oidcOptional (request, reply, done) {
      const session = authenticate(core, request)
      const problem = session === null ? undefined : check(core, constraints, request, session)
      proceed(core, constraints, problem, request, reply, done)
    }
  }
}

// `done` without an error is what lets a request through. A promise of the reply would not do: it is also fulfilled when
// the client closes the connection, and Fastify would go on to the handler.
function proceed (
  core: Core, constraints: Constraints, problem: OidcError | undefined, request: FastifyRequest, reply: FastifyReply, done: (error: Error) => void
): void {
  if (problem === undefined) (done as () => void)()
  else turnAway(core, constraints, problem, request, reply).catch(done)
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
  return findProblem(constraints, session, claims, settings.provider)
}

/** A person who opens a page is sent to log in where that helps; everybody else gets the error. */
async function turnAway (core: Core, constraints: Constraints, problem: OidcError, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (problem.statusCode !== 401 || !isNavigation(request)) return await refuse(core, problem, request, reply)
  if (isPrefetch(request)) return await refuse(core, new OidcError('FST_OIDC_PREFETCH'), request, reply)
  try {
    await startLogin(core, request, reply, {
      returnTo: core.urls.request(request),
      maxAge: constraints.maxAge,
      acrValues: constraints.acr.length > 0 ? [...constraints.acr] : undefined
    })
  } catch (error) {
    await refuse(core, error, request, reply)
  }
}
