import { findOneProvider } from '../broker/one-provider.ts'
import { demand } from '../broker/oauth.ts'
import { scopeOf } from '../login.ts'
import { now } from '../time.ts'
import { clientIdOf, oauthEndpoint } from './oauth.ts'
import type { Core } from '../core.ts'
import type { Endpoint } from './index.ts'

/** What a device_code of ours holds. */
export interface DeviceCode {
  provider: string
  deviceCode: string
  clientId: string | undefined
  expiresAt: number
}

const INTERVAL = 5 // seconds (RFC 8628, section 3.2)

/** `POST device`: begins a device flow with the provider, as this application's client (RFC 8628, section 3.1). */
export function deviceEndpoint (core: Core): Endpoint {
  return oauthEndpoint(core, async (params, request) => {
    const provider = await findOneProvider(core, params, request)
    const clientId = clientIdOf(core, params)
    const { device_code: deviceCode, interval = INTERVAL, ...answer } = await provider.authorizeDevice(scopeOf(provider, core.broker !== undefined))
    const content: DeviceCode = { provider: provider.name, deviceCode, clientId, expiresAt: now() + answer.expires_in }
    const { user_code, verification_uri, verification_uri_complete, expires_in } = answer
    return { device_code: core.sealer.seal('device', content), user_code, verification_uri, verification_uri_complete, expires_in, interval }
  })
}

/** Throws FST_OIDC_GRANT for one that was not made here: the provider is not asked. */
export function openDeviceCode ({ sealer }: Core, deviceCode: string): DeviceCode {
  const device = sealer.open('device', deviceCode)?.content as DeviceCode | undefined
  demand(device !== undefined, 'invalid_grant', 'The device_code is not known.')
  demand(device.expiresAt > now(), 'expired_token', 'The device_code has expired.')
  return device
}
