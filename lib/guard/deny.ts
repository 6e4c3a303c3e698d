import { OidcError } from '../errors.ts'
import { isNavigation, isPrefetch } from '../http/fetch-metadata.ts'
import { acceptsTokens } from './constraints.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ErrorResponses, NextLogin } from '../http/error-response.ts'
import type { Urls } from '../http/urls.ts'
import type { GuardedLogins } from '../login/guarded-logins.ts'
import type { Login } from '../login/login.ts'
import type { Requirements, StepUp } from '../login/step-up.ts'
import type { Sessions } from '../session/sessions.ts'
import type { Bearer } from './bearer.ts'
import type { Challenge } from './challenge.ts'
import type { Constraints } from './constraints.ts'
import type { LoginProvider } from './login-provider.ts'

/** Answers a request that a guard does not let through. */
export type Deny = (problem: OidcError, request: FastifyRequest, reply: FastifyReply) => Promise<void>

export interface DenyParts {
  bearer: Bearer | undefined
  challenge: Challenge
  errorResponses: ErrorResponses
  guardedLogins: GuardedLogins
  login: Login
  loginProvider: LoginProvider
  sessions: Sessions
  stepUp: StepUp
  urls: Urls
}

/** A navigation without a login is redirected to the provider, once. All other requests get the error. */
export function createDeny (parts: DenyParts): (constraints: Constraints) => Deny {
  const { bearer, challenge, errorResponses: { sendError }, guardedLogins, login, loginProvider, sessions } = parts
  const { stepUp, urls } = parts

  function canLogIn (constraints: Constraints, request: FastifyRequest): boolean {
    const hasToken = bearer !== undefined && acceptsTokens(constraints) && bearer.isPresented(request)
    return constraints.accept.has('session') && isNavigation(request) && !hasToken
  }

  /** For a script, which opens the login itself. A user who is logged in stays with the provider. */
  function nextLogin (constraints: Constraints, { code }: OidcError, request: FastifyRequest): NextLogin {
    const requirements = requirementsOf(constraints)
    const session = code === 'FST_OIDC_AUTHENTICATION_TOO_OLD' ? request.oidcSession : null
    const providers = session === null ? constraints.providers?.(request) : [session.provider]
    if (code === 'FST_OIDC_FORBIDDEN' && request.oidcSession != null) {
      const returnTo = urls.request(request)
      return { returnTo, providers, stepUp: stepUp.seal({ ...requirements, otherAccount: true }), otherAccount: true }
    }
    const returnTo = pageOfForm(request)
    return { returnTo, providers, stepUp: stepUp.seal(requirements), demands: demandsOf(requirements) }
  }

  /** The page of this application from which a form was posted: its own address need not be a page. */
  function pageOfForm ({ method, headers: { referer } }: FastifyRequest): string | undefined {
    return method === 'POST' && referer !== undefined ? urls.returnTo(referer) : undefined
  }

  // The login has succeeded before, and another one would change nothing: it would begin again and again.
  async function refuseAgain (problem: OidcError, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    guardedLogins.clear(request, reply)
    const detail = `${problem.code} right after a login: ${problem.detail ?? sessions.explain(request)}`
    await sendError(new OidcError('FST_OIDC_LOGIN_LOST', { detail }), request, reply, {
      returnTo: urls.request(request)
    })
  }

  async function sendToLogin (
    constraints: Constraints,
    problem: OidcError,
    request: FastifyRequest,
    reply: FastifyReply
  ): Promise<void> {
    const returnTo = urls.request(request)
    const providers = constraints.providers?.(request)
    try {
      const provider = await loginProvider(constraints, request)
      if (provider === null) return login.choose(request, reply, { returnTo, providers })
      const wanted = { returnTo, ...requirementsOf(constraints) }
      if (guardedLogins.has(request, { ...wanted, provider: provider.id })) {
        return await refuseAgain(problem, request, reply)
      }
      await login.start(provider, request, reply, { ...wanted, guarded: true })
    } catch (error) {
      await sendError(error, request, reply, { returnTo, providers })
    }
  }

  return (constraints) => async (problem, request, reply) => {
    if (problem.statusCode === 403) guardedLogins.clear(request, reply)
    const canLogInHere = canLogIn(constraints, request)
    if (!canLogInHere) challenge(constraints, problem, request, reply)
    if (problem.statusCode !== 401 || !canLogInHere) {
      return await sendError(problem, request, reply, nextLogin(constraints, problem, request))
    }
    if (isPrefetch(request)) return await sendError(new OidcError('FST_OIDC_PREFETCH'), request, reply)
    await sendToLogin(constraints, problem, request, reply)
  }
}

function requirementsOf ({ maxAge, acr }: Constraints): Requirements {
  return { maxAge, acrValues: acr.length > 0 ? [...acr] : undefined }
}

function demandsOf ({ maxAge, acrValues }: Requirements): Record<string, string | number> {
  return {
    ...(maxAge !== undefined && { max_age: maxAge }),
    ...(acrValues !== undefined && { acr_values: acrValues.join(' ') })
  }
}
