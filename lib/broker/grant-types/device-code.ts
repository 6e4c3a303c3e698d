import { describeLogin } from '../../login/claims.ts'
import { DEVICE_GRANT as GRANT_TYPE } from '../../provider/device-authorization.ts'
import { demand } from '../../provider/oauth-error.ts'
import { toGranted } from '../token-response.ts'
import type { AcceptLogin } from '../../login/accept-login.ts'
import type { Provider } from '../../provider/provider.ts'
import type { Providers } from '../../provider/providers.ts'
import type { TokenSet } from '../../provider/token-request.ts'
import type { EndedSessions } from '../../session/ended-sessions.ts'
import type { Telemetry } from '../../telemetry.ts'
import type { Broker } from '../broker.ts'
import type { DeviceCode, DeviceCodes } from '../device-codes.ts'
import type { Granted } from '../token-response.ts'
import type { GrantContext, GrantType } from './grant-type.ts'

export interface DeviceCodeParts {
  /** Without it, the endpoint returns the provider's own tokens. */
  broker: Broker | undefined
  deviceCodes: DeviceCodes
  providers: Providers
  endedSessions: Pick<EndedSessions, 'loginTime'>
  acceptLogin: AcceptLogin
  telemetry: Telemetry
  defaultReturnTo: string
}

/** A login on another device that the provider has confirmed. */
interface DeviceLogin {
  provider: Provider
  tokenSet: TokenSet
  /** In milliseconds since the epoch. */
  loginAt: number
}

/** RFC 8628, section 3.4: asks the provider once, and passes on its error until the user has logged in. */
export function createDeviceCode (parts: DeviceCodeParts): GrantType {
  const { broker, deviceCodes, providers, endedSessions, acceptLogin, telemetry, defaultReturnTo } = parts

  async function askProvider (provider: Provider, device: DeviceCode): Promise<TokenSet> {
    return await telemetry.exchangeTokens(provider.name, async () => {
      return await provider.grant(GRANT_TYPE, tokenParams(device), provider.settings.resource)
    })
  }

  async function issue (
    broker: Broker,
    { provider, tokenSet: { tokens, claims }, loginAt }: DeviceLogin,
    { clientId = provider.settings.clientId, request, reply }: GrantContext
  ): Promise<Granted | null> {
    demand(claims !== undefined, 'invalid_grant', 'The identity provider does not name the user.')
    const context = { returnTo: defaultReturnTo, request, reply }
    const accepted = await acceptLogin(provider, { tokens, claims }, context)
    if (accepted === null) return null
    telemetry.login(provider.name)
    const { scopes, ...login } = describeLogin(claims, tokens.scope ?? provider.settings.scope)
    const subject = { provider, ...accepted.kept, ...login, scope: scopes.join(' '), clientId, loginAt, tokens }
    return await broker.issue(subject, { grantType: GRANT_TYPE, request })
  }

  return {
    grantType: GRANT_TYPE,
    parameters: ['device_code'],
    async handle (context) {
      const { params, clientId, request } = context
      const device = deviceCodes.open(params.get('device_code') as string)
      demand(clientId === device.clientId, 'invalid_grant', 'The device_code is of another client.')
      const provider = await providers.get(request, device.provider)
      if (broker === undefined) return toGranted(provider.name, (await askProvider(provider, device)).tokens)
      const loginAt = await endedSessions.loginTime()
      return await issue(broker, { provider, tokenSet: await askProvider(provider, device), loginAt }, context)
    }
  }
}

function tokenParams ({ deviceCode, codeVerifier }: DeviceCode): Record<string, string> {
  return { device_code: deviceCode, ...(codeVerifier !== undefined && { code_verifier: codeVerifier }) }
}
