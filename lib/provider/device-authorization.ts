import * as client from 'openid-client'
import { OidcError } from '../errors.ts'
import { attempt } from './client-errors.ts'
import { checkEndpoint } from './discovery.ts'
import { resourceParams } from './resource-params.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { Discovered } from './discovery.ts'

/** Starts a device flow (RFC 8628, section 3.1). Throws FST_OIDC_DEVICE when the provider does not support it. */
export async function authorizeDevice (
  { config, metadata, settings }: Discovered,
  scope: string
): Promise<client.DeviceAuthorizationResponse> {
  if (metadata['device_authorization_endpoint'] === undefined) throw new OidcError('FST_OIDC_DEVICE')
  const response = await attempt(
    'FST_OIDC_PROVIDER_RESPONSE',
    async () => await client.initiateDeviceAuthorization(config, deviceParams(settings, scope)),
    settings
  )
  // The device shows these to the user.
  checkEndpoint('verification_uri', response.verification_uri, settings.allowInsecureLoopback, true)
  checkEndpoint('verification_uri_complete', response.verification_uri_complete, settings.allowInsecureLoopback, false)
  return response
}

function deviceParams (
  { authorizationParams: { audience }, resource }: ProviderSettings,
  scope: string
): URLSearchParams {
  const params = resourceParams(resource)
  params.set('scope', scope)
  if (audience !== undefined) params.set('audience', audience)
  return params
}
