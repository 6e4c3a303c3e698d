import { findProvider } from '../guard/guards.ts'
import { OidcError } from '../errors.ts'
import { startLogin } from '../login/login.ts'
import { formParams, queryParams } from '../http/params.ts'
import { checkNavigation } from './login.ts'
import type { FastifyRequest, RouteHandlerMethod } from 'fastify'
import type { Core } from '../compose.ts'
import type { Params } from '../http/params.ts'
import type { Endpoint } from './index.ts'

/**
 * `GET` or `POST initiate-login?iss=…&login_hint=…&target_link_uri=…`: the provider, or a portal, sends a
 * person to log in (OpenID Connect Core 1.0, section 4).
 */
export function initiateLoginEndpoint (core: Core, nameOf: (request: FastifyRequest) => string): Endpoint {
  const endpoint = (paramsOf: (request: FastifyRequest) => Params): RouteHandlerMethod => async (request, reply) => {
    checkNavigation(request)
    const params = paramsOf(request)
    const provider = await findProvider(core, request, nameOf(request))
    if (params.get('iss') !== provider.settings.issuer) throw new OidcError('FST_OIDC_RESPONSE_ISSUER')
    const loginHint = params.get('login_hint')
    await startLogin(core, provider, request, reply, {
      returnTo: core.urls.returnTo(params.get('target_link_uri')),
      ...(loginHint !== undefined && { authorizationParams: { login_hint: loginHint } })
    })
    return reply
  }
  return { GET: endpoint(queryParams), POST: endpoint(formParams) }
}
