import * as client from 'openid-client'
import { sha256 } from '../util/crypto.ts'
import { attempt, passOn } from './client-errors.ts'
import { checkEndpoint, requireEndpoint } from './metadata.ts'
import { resourceParams } from './resource-params.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { Discovered } from './discovery.ts'

export const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code'

/**
 * Starts a device flow (RFC 8628, section 3.1), with PKCE: a client may be registered to require it. Throws
 * FST_OIDC_DEVICE when the provider does not support it, and FST_OIDC_GRANT with the error code of the provider.
 */
export async function authorizeDevice (
  discovered: Discovered,
  scope: string,
  codeVerifier: string
): Promise<client.DeviceAuthorizationResponse> {
  const { config, settings } = discovered
  requireEndpoint(discovered, 'device_authorization_endpoint', 'FST_OIDC_DEVICE')
  const params = deviceParams(settings, scope, codeVerifier)
  const response = await attempt(
    'FST_OIDC_PROVIDER_RESPONSE',
    async () => await client.initiateDeviceAuthorization(config, params).catch(passOn),
    settings,
    DEVICE_GRANT
  )
  // The device shows these to the user.
  const { verification_uri: address, verification_uri_complete: complete } = response
  checkEndpoint('verification_uri', address, settings.allowInsecureLoopback)
  if (complete !== undefined) {
    checkEndpoint('verification_uri_complete', complete, settings.allowInsecureLoopback)
  }
  return response
}

function deviceParams (
  { authorizationParams: { audience }, resource }: ProviderSettings,
  scope: string,
  codeVerifier: string
): URLSearchParams {
  const params = resourceParams(resource)
  params.set('scope', scope)
  params.set('code_challenge', sha256(codeVerifier)) // RFC 7636, section 4.2
  params.set('code_challenge_method', 'S256')
  if (audience !== undefined) params.set('audience', audience)
  return params
}
