import * as client from 'openid-client'
import { OidcError } from '../errors.ts'
import { sha256 } from '../util/crypto.ts'
import { attempt } from './client-errors.ts'
import { requireEndpoint } from './metadata.ts'
import { resourceParams } from './resource-params.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { Discovered } from './discovery.ts'

/** What a login sends to the provider and must remember until the callback. */
export interface AuthorizationRequest {
  state: string
  nonce: string
  codeVerifier: string
  redirectUri: string
  maxAge?: number | undefined
  acrValues?: string[] | undefined
  /** Whether the request has `prompt=login`: the provider must ask the user, whatever it does with `max_age`. */
  promptsLogin?: boolean | undefined
  scope: string
  /** Resource indicators (RFC 8707). The authorization request and the token request send the same. */
  resource: string[]
}

/** The URL that starts a login at the provider. Pushes the parameters first where this is configured or required. */
export async function authorizationUrl (
  discovered: Discovered,
  request: AuthorizationRequest,
  params: Record<string, string>
): Promise<URL> {
  const { config, metadata, settings } = discovered
  const query = new URLSearchParams([
    ...Object.entries(authorizationParams(settings, request, params)),
    ...resourceParams(request.resource)
  ])
  const pushed = settings.pushedAuthorizationRequests || metadata.require_pushed_authorization_requests === true
  if (!pushed) return client.buildAuthorizationUrl(config, query)
  requireEndpoint(discovered, 'pushed_authorization_request_endpoint', 'FST_OIDC_PROVIDER_RESPONSE')
  return await attempt(
    'FST_OIDC_PROVIDER_RESPONSE',
    async () => await client.buildAuthorizationUrlWithPAR(config, query),
    settings,
    'authorization_code'
  )
}

// The plugin's own parameters come last: `params` must not replace them.
function authorizationParams (
  settings: ProviderSettings,
  request: AuthorizationRequest,
  params: Record<string, string>
): Record<string, string> {
  return {
    ...params,
    ...(request.maxAge !== undefined && { max_age: String(request.maxAge) }),
    ...(request.acrValues !== undefined && { acr_values: request.acrValues.join(' ') }),
    ...(settings.responseMode === 'form_post' && { response_mode: 'form_post' }),
    redirect_uri: request.redirectUri,
    scope: request.scope,
    state: request.state,
    nonce: request.nonce,
    code_challenge: sha256(request.codeVerifier), // RFC 7636, section 4.2
    code_challenge_method: 'S256'
  }
}

/** Checks that an authorization response comes from this provider (RFC 9207, section 2.4). */
export async function checkResponseIssuer ({ metadata }: Discovered, iss: string | undefined): Promise<void> {
  const isRequired = metadata.authorization_response_iss_parameter_supported === true
  const matches = iss === undefined ? !isRequired : iss === metadata.issuer
  if (matches) return
  const detail = `iss in the response is ${String(iss).slice(0, 200)}, not ${metadata.issuer}`
  throw new OidcError('FST_OIDC_RESPONSE_ISSUER', { detail })
}
