import { OidcError } from '../errors.ts'
import { isNavigation, isPrefetch } from '../http/fetch-metadata.ts'
import { acceptsTokens } from './constraints.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ErrorResponses } from '../http/error-response.ts'
import type { Urls } from '../http/urls.ts'
import type { Login } from '../login/login.ts'
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
  login: Login
  loginProvider: LoginProvider
  urls: Urls
}

/** A navigation without a login is redirected to the provider. All other requests get the error. */
export function createDeny (parts: DenyParts): (constraints: Constraints) => Deny {
  const { bearer, challenge, errorResponses: { sendError }, login, loginProvider, urls } = parts

  function canLogIn (constraints: Constraints, request: FastifyRequest): boolean {
    const hasToken = bearer !== undefined && acceptsTokens(constraints) && bearer.isPresented(request)
    return constraints.accept.has('session') && isNavigation(request) && !hasToken
  }

  async function sendToLogin (constraints: Constraints, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const { maxAge, acr } = constraints
    const returnTo = urls.request(request)
    const providers = constraints.providers?.(request)
    try {
      const provider = await loginProvider(constraints, request)
      if (provider === null) return login.choose(request, reply, returnTo, providers)
      const acrValues = acr.length > 0 ? [...acr] : undefined
      await login.start(provider, request, reply, { returnTo, maxAge, acrValues })
    } catch (error) {
      await sendError(error, request, reply, { returnTo, providers })
    }
  }

  return (constraints) => async (problem, request, reply) => {
    const canLogInHere = canLogIn(constraints, request)
    if (!canLogInHere) challenge(constraints, problem, request, reply)
    if (problem.statusCode !== 401 || !canLogInHere) {
      return await sendError(problem, request, reply, { providers: constraints.providers?.(request) })
    }
    if (isPrefetch(request)) return await sendError(new OidcError('FST_OIDC_PREFETCH'), request, reply)
    await sendToLogin(constraints, request, reply)
  }
}
