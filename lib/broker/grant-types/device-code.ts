import { acceptLogin } from '../../login/accept-login.ts'
import { sessionOf } from '../../login/claims.ts'
import { findProvider } from '../../guard/guards.ts'
import { exchangeTokens } from '../../token-exchange.ts'
import { openDeviceCode } from '../device-codes.ts'
import { demand } from '../../provider/oauth-error.ts'
import { describeTokens } from '../pass-through.ts'
import type { Grant } from './index.ts'

const GRANT_TYPE = 'urn:ietf:params:oauth:grant-type:device_code'

/** RFC 8628, section 3.4: asks the provider once; what it says of a login that is not done is passed on. */
export const deviceCode: Grant = {
  grantType: GRANT_TYPE,
  parameters: ['device_code'],
  async handle ({ core, params, clientId, request, reply }) {
    const device = openDeviceCode(core, params.get('device_code') as string)
    demand(clientId === device.clientId, 'invalid_grant', 'The device_code is of another client.')
    const provider = await findProvider(core, request, device.provider)
    const loginAt = Date.now()
    const { tokens, claims } = await exchangeTokens(
      core.telemetry,
      async () => await provider.grant(GRANT_TYPE, { device_code: device.deviceCode }, provider.settings.resource)
    )
    const { broker } = core
    if (broker === undefined) return describeTokens(tokens)
    demand(claims !== undefined, 'invalid_grant', 'The identity provider does not say who it is.')
    const accepted = await acceptLogin(
      core,
      provider,
      { tokens, claims },
      { returnTo: core.settings.defaultReturnTo, request, reply }
    )
    if (accepted === null) return null
    core.telemetry.login()
    const { scopes, ...session } = sessionOf(claims, tokens.scope ?? provider.settings.scope)
    const { answer } = await broker.issue(
      {
        provider,
        claims: accepted.claims,
        ...session,
        scope: scopes.join(' '),
        clientId: clientId ?? provider.settings.clientId,
        loginAt,
        tokens
      },
      { grantType: GRANT_TYPE, request }
    )
    return answer
  }
}
