import { randomBytes } from 'node:crypto'
import { clientIdOf, providerOf } from '../broker/request-params.ts'
import { scopeOf } from '../login/login.ts'
import { now } from '../util/time.ts'
import { oauthEndpoint } from './oauth-endpoint.ts'
import type { Parts } from '../compose.ts'
import type { Endpoint } from './endpoint.ts'

/** How often a device may ask, in seconds, when the provider does not say it (RFC 8628, section 3.2). */
const INTERVAL = 5

/** `POST device`: starts a device flow at the provider, with this application's client (RFC 8628, section 3.1). */
export function deviceEndpoint (
  { settings, providers, broker, deviceCodes, errorResponses }:
  Pick<Parts, 'settings' | 'providers' | 'broker' | 'deviceCodes' | 'errorResponses'>
): Endpoint {
  return oauthEndpoint(errorResponses, async (params, request) => {
    const provider = await providerOf(providers, params, request)
    const clientId = clientIdOf(settings, params)
    const codeVerifier = randomBytes(32).toString('base64url')
    const answer = await provider.authorizeDevice(scopeOf(provider, broker !== undefined), codeVerifier)
    const { device_code: deviceCode, interval = INTERVAL, ...others } = answer
    const { user_code, verification_uri, verification_uri_complete, expires_in } = others
    const device = { provider: provider.name, deviceCode, codeVerifier, clientId, expiresAt: now() + expires_in }
    const device_code = deviceCodes.seal(device)
    return { device_code, user_code, verification_uri, verification_uri_complete, expires_in, interval }
  })
}
