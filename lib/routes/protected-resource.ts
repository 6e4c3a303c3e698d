import { DPOP_ALGORITHMS } from '../options/bearer.ts'
import { publicDocument } from './public-document.ts'
import type { Parts } from '../compose.ts'
import type { BearerSettings } from '../options/bearer.ts'
import type { Endpoint } from './endpoint.ts'

/** `GET /.well-known/oauth-protected-resource`: who issues the tokens that are accepted here (RFC 9728, section 3). */
export function protectedResourceEndpoint (
  parts: Pick<Parts, 'providers' | 'broker'>,
  settings: BearerSettings
): Endpoint {
  const { resource, scopes, dpop, dpopRequired } = settings
  const issuers = issuersOf(parts, settings)
  const metadata = {
    resource,
    ...(issuers.length > 0 && { authorization_servers: issuers }),
    bearer_methods_supported: ['header'],
    ...(scopes.length > 0 && { scopes_supported: scopes }),
    ...(dpop && {
      dpop_signing_alg_values_supported: DPOP_ALGORITHMS,
      dpop_bound_access_tokens_required: dpopRequired
    })
  }
  return publicDocument(3600, () => metadata)
}

function issuersOf (
  { providers, broker }: Pick<Parts, 'providers' | 'broker'>,
  { ofProviders }: BearerSettings
): string[] {
  const own = broker === undefined ? [] : [broker.settings.issuer]
  const others = ofProviders ? providers.choices.map(({ settings: { issuer } }) => issuer) : []
  return [...new Set([...own, ...others])]
}
