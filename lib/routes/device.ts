import { sealDeviceCode } from '../broker/device-codes.ts'
import { findOneProvider } from '../broker/request-params.ts'
import { scopeOf } from '../login/login.ts'
import { now } from '../util/time.ts'
import { clientIdOf, oauthEndpoint } from './oauth-endpoint.ts'
import type { Core } from '../compose.ts'
import type { Endpoint } from './index.ts'

const INTERVAL = 5 // seconds (RFC 8628, section 3.2)

/** `POST device`: begins a device flow with the provider, as this application's client (RFC 8628, section 3.1). */
export function deviceEndpoint (core: Core): Endpoint {
  return oauthEndpoint(core, async (params, request) => {
    const provider = await findOneProvider(core, params, request)
    const clientId = clientIdOf(core, params)
    const {
      device_code: deviceCode,
      interval = INTERVAL,
      ...answer
    } = await provider.authorizeDevice(scopeOf(provider, core.broker !== undefined))
    const { user_code, verification_uri, verification_uri_complete, expires_in } = answer
    const device = { provider: provider.name, deviceCode, clientId, expiresAt: now() + expires_in }
    return {
      device_code: sealDeviceCode(core, device),
      user_code,
      verification_uri,
      verification_uri_complete,
      expires_in,
      interval
    }
  })
}
