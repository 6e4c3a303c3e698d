import { publicDocument } from './public-document.ts'
import type { Broker } from '../broker/broker.ts'
import type { Parts } from '../compose.ts'
import type { Endpoint } from './endpoint.ts'

/** `GET /.well-known/oauth-authorization-server` (RFC 8414): an OAuth client finds the other endpoints here. */
export function authorizationServerEndpoint (
  { settings: { routes, tokenRoutes }, urls, grantTypes }: Pick<Parts, 'settings' | 'urls' | 'grantTypes'>,
  { settings: { issuer, nativeClients, resourceServers } }: Broker
): Endpoint {
  const url = (path: string | null): string | undefined => path === null ? undefined : urls.route(path)
  const metadata = {
    issuer,
    token_endpoint: url(tokenRoutes.token),
    jwks_uri: url(tokenRoutes.jwks),
    device_authorization_endpoint: url(tokenRoutes.device),
    revocation_endpoint: url(tokenRoutes.revoke),
    token_endpoint_auth_methods_supported: ['none'],
    revocation_endpoint_auth_methods_supported: ['none'],
    grant_types_supported: grantTypes.map(({ grantType }) => grantType),
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
  return publicDocument(3600, () => metadata)
}
