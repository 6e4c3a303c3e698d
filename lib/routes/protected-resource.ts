import { DPOP_ALGORITHMS } from '../guard/dpop.ts'
import { publicEndpoint } from './public-document.ts'
import type { Core } from '../compose.ts'
import type { BearerSettings } from '../options/bearer.ts'
import type { Endpoint } from './index.ts'

/** `GET /.well-known/oauth-protected-resource`: who issues the tokens that are taken here (RFC 9728, section 3). */
export function protectedResourceEndpoint (
  { providers, broker }: Core,
  { ofProviders, resource, scopes, dpop, dpopRequired }: BearerSettings
): Endpoint {
  const issuers = [
    ...(broker === undefined ? [] : [broker.settings.issuer]),
    ...(ofProviders ? providers.choices.map(({ settings: { issuer } }) => issuer) : [])
  ]
  const metadata = {
    resource,
    ...(issuers.length > 0 && { authorization_servers: [...new Set(issuers)] }),
    bearer_methods_supported: ['header'],
    ...(scopes.length > 0 && { scopes_supported: scopes }),
    ...(dpop && {
      dpop_signing_alg_values_supported: DPOP_ALGORITHMS.split(' '),
      dpop_bound_access_tokens_required: dpopRequired
    })
  }
  return publicEndpoint(3600, () => metadata)
}
