import { demand } from '../provider/oauth-error.ts'
import { now } from '../util/time.ts'
import type { Sealer } from '../sealer.ts'

/** The content of a `device_code` of this application: that of the provider, sealed. */
export interface DeviceCode {
  provider: string
  deviceCode: string
  /** Of PKCE. A code that an earlier version sealed has none. */
  codeVerifier?: string
  clientId: string | undefined
  /** In seconds since the epoch. */
  expiresAt: number
}

export interface DeviceCodes {
  seal: (device: DeviceCode) => string
  /** Throws FST_OIDC_GRANT for a code that this application has not sealed, without asking the provider. */
  open: (deviceCode: string) => DeviceCode
}

export function createDeviceCodes (sealer: Sealer): DeviceCodes {
  return {
    seal: (device) => sealer.seal('device', device),

    open (deviceCode) {
      const device = sealer.open('device', deviceCode)?.content as DeviceCode | undefined
      demand(device !== undefined, 'invalid_grant', 'The device_code is not known.')
      demand(device.expiresAt > now(), 'expired_token', 'The device_code has expired.')
      return device
    }
  }
}
