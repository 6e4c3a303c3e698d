import { findGrantType } from '../broker/grant-types/index.ts'
import { clientIdOf } from '../broker/request-params.ts'
import { oauthEndpoint } from './oauth-endpoint.ts'
import type { GrantContext, GrantType } from '../broker/grant-types/grant-type.ts'
import type { TokenResponse } from '../broker/token-response.ts'
import type { Parts } from '../compose.ts'
import type { Params } from '../http/params.ts'
import type { Telemetry } from '../telemetry.ts'
import type { Endpoint } from './endpoint.ts'

/** `POST token` (RFC 6749, section 3.2) */
export function tokenEndpoint (
  { settings, grantTypes, telemetry, errorResponses }:
  Pick<Parts, 'settings' | 'grantTypes' | 'telemetry' | 'errorResponses'>
): Endpoint {
  return oauthEndpoint(errorResponses, async (sent, request, reply) => {
    const params = withStandardNames(sent)
    const grantType = findGrantType(grantTypes, params)
    const clientId = clientIdOf(settings, params)
    return await handleGrant(grantType, { params, clientId, request, reply }, telemetry)
  })
}

async function handleGrant (
  { grantType, handle }: GrantType,
  context: GrantContext,
  { span, granted }: Telemetry
): Promise<TokenResponse | null> {
  return await span('oidc.grant', async () => {
    try {
      const response = await handle(context)
      granted(grantType, 'success')
      return response
    } catch (error) {
      granted(grantType, 'failure')
      throw error
    }
  })
}

/** py-oidc-auth-client uses its own names of these parameters. */
const STANDARD_NAMES = new Map([['refresh-token', 'refresh_token'], ['device-code', 'device_code']])

function withStandardNames (params: ReadonlyMap<string, string>): Params {
  return new Map([...params].map(([name, value]) => [STANDARD_NAMES.get(name) ?? name, value]))
}
