import { now } from '../util/time.ts'
import { demand } from '../provider/oauth-error.ts'
import type { Core } from '../compose.ts'

/** What a device_code of ours holds. */
export interface DeviceCode {
  provider: string
  deviceCode: string
  clientId: string | undefined
  expiresAt: number
}

export function sealDeviceCode ({ sealer }: Core, device: DeviceCode): string {
  return sealer.seal('device', device)
}

/** Throws FST_OIDC_GRANT for one that was not made here: the provider is not asked. */
export function openDeviceCode ({ sealer }: Core, deviceCode: string): DeviceCode {
  const device = sealer.open('device', deviceCode)?.content as DeviceCode | undefined
  demand(device !== undefined, 'invalid_grant', 'The device_code is not known.')
  demand(device.expiresAt > now(), 'expired_token', 'The device_code has expired.')
  return device
}
