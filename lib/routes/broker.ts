import { oauthError } from '../provider/oauth-error.ts'
import { requireParam } from '../broker/request-params.ts'
import { grants } from '../broker/grant-types/index.ts'
import { equal } from '../util/crypto.ts'
import { publicEndpoint } from './public-document.ts'
import { oauthEndpoint } from './oauth-endpoint.ts'
import type { FastifyRequest } from 'fastify'
import type { Broker } from '../broker/broker.ts'
import type { Core } from '../compose.ts'
import type { Params } from '../http/params.ts'
import type { Endpoint } from './index.ts'

/** `GET .well-known/jwks.json`: what our tokens are verified with (RFC 7517). */
export function jwksEndpoint ({ keys }: Broker): Endpoint {
  // Half of the time that a key is published before it signs.
  return publicEndpoint(300, async () => await keys.jwks(), 'application/jwk-set+json')
}

/** `POST revoke` (RFC 7009): whoever has a token may end it; whether it was one is not told. */
export function revocationEndpoint (core: Core, broker: Broker): Endpoint {
  return oauthEndpoint(core, async (params) => {
    await broker.revokeToken(requireParam(params, 'token'))
    return {}
  })
}

/** `POST introspect` (RFC 7662), for the resource servers that are configured. */
export function introspectionEndpoint (core: Core, broker: Broker): Endpoint {
  return oauthEndpoint(core, async (params, request) => {
    authenticate(request, params, broker)
    const payload = await broker.introspect(requireParam(params, 'token'))
    return payload === null ? { active: false } : { active: true, token_type: 'Bearer', ...payload }
  })
}

/** client_secret_basic or client_secret_post (RFC 6749, section 2.3.1). */
function authenticate ({ headers }: FastifyRequest, params: Params, { settings: { resourceServers } }: Broker): void {
  const [, basic] = /^basic ([\w+/]+=*)$/i.exec(headers.authorization ?? '') ?? []
  const [name, secret] = basic === undefined ? [params.get('client_id'), params.get('client_secret')] : basicOf(basic)
  const expected = resourceServers.get(name ?? '')
  const isKnown = expected !== undefined && secret !== undefined && equal(secret, expected)
  if (!isKnown) throw oauthError('invalid_client', 'The resource server is not known.')
}

function basicOf (base64: string): Array<string | undefined> {
  try {
    return Buffer.from(base64, 'base64')
      .toString()
      .split(':')
      .map((part) => decodeURIComponent(part.replaceAll('+', ' ')))
  } catch {
    return []
  }
}

/** `GET /.well-known/oauth-authorization-server` (RFC 8414): by this any client of OAuth finds the rest. */
export function authorizationServerEndpoint (
  { settings: { routes, tokenRoutes }, urls }: Core,
  { settings: { issuer, nativeClients, resourceServers } }: Broker
): Endpoint {
  const url = (path: string | null): string | undefined => (path === null ? undefined : urls.route(path))
  const metadata = {
    issuer,
    token_endpoint: url(tokenRoutes.token),
    jwks_uri: url(tokenRoutes.jwks),
    device_authorization_endpoint: url(tokenRoutes.device),
    revocation_endpoint: url(tokenRoutes.revoke),
    token_endpoint_auth_methods_supported: ['none'],
    revocation_endpoint_auth_methods_supported: ['none'],
    grant_types_supported: grants.map(({ grantType }) => grantType),
    response_types_supported: nativeClients === undefined ? [] : ['code'],
    ...(nativeClients !== undefined && {
      authorization_endpoint: url(routes.login),
      code_challenge_methods_supported: ['S256'],
      authorization_response_iss_parameter_supported: true
    }),
    ...(resourceServers.size > 0 && {
      introspection_endpoint: url(tokenRoutes.introspect),
      introspection_endpoint_auth_methods_supported: ['client_secret_basic', 'client_secret_post']
    })
  }
  return publicEndpoint(3600, () => metadata)
}
