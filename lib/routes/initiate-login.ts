import { OidcError } from '../errors.ts'
import { formParams, queryParams } from '../http/params.ts'
import { checkNavigation } from './login.ts'
import type { FastifyRequest, RouteHandlerMethod } from 'fastify'
import type { Parts } from '../compose.ts'
import type { BrowserParams } from '../http/params.ts'
import type { Endpoint, ProviderNameOf } from './endpoint.ts'

/**
 * `GET` or `POST initiate-login?iss=…&login_hint=…&target_link_uri=…`: the provider, or a portal, sends a user
 * to log in (OpenID Connect Core 1.0, section 4).
 */
export function initiateLoginEndpoint (
  { providers, login, urls }: Pick<Parts, 'providers' | 'login' | 'urls'>,
  nameOf: ProviderNameOf
): Endpoint {
  type ParamsOf = (request: FastifyRequest) => BrowserParams
  const handler = (paramsOf: ParamsOf): RouteHandlerMethod => async (request, reply) => {
    checkNavigation(request)
    const params = paramsOf(request)
    const provider = await providers.get(request, nameOf(request))
    if (params.get('iss') !== provider.settings.issuer) throw new OidcError('FST_OIDC_RESPONSE_ISSUER')
    const loginHint = params.get('login_hint')
    await login.start(provider, request, reply, {
      returnTo: urls.returnTo(params.get('target_link_uri')),
      ...(loginHint !== undefined && { authorizationParams: { login_hint: loginHint } })
    })
    return reply
  }
  return { GET: handler(queryParams), POST: handler(formParams) }
}
