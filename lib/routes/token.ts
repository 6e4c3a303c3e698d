import { findGrantType } from '../broker/grant-types/index.ts'
import { clientIdOf } from '../broker/request-params.ts'
import { logCompleted, sessionDigest } from '../http/completed.ts'
import { oauthEndpoint } from './oauth-endpoint.ts'
import type { Parts } from '../compose.ts'
import type { Params } from '../http/params.ts'
import type { Endpoint } from './endpoint.ts'

/** `POST token` (RFC 6749, section 3.2) */
export function tokenEndpoint (
  { settings, grantTypes, telemetry, errorResponses }:
  Pick<Parts, 'settings' | 'grantTypes' | 'telemetry' | 'errorResponses'>
): Endpoint {
  return oauthEndpoint(errorResponses, async (sent, request, reply) => {
    const params = withStandardNames(sent)
    const { grantType, handle } = findGrantType(grantTypes, params)
    const clientId = clientIdOf(settings, params)
    const granted = await telemetry.grant(grantType, async () => await handle({ params, clientId, request, reply }))
    if (granted === null) return null
    const { response, provider, id } = granted
    const session = id === undefined ? undefined : sessionDigest(id)
    logCompleted(request.log, 'grant', { grantType, provider, session })
    return response
  })
}

/** py-oidc-auth-client uses its own names of these parameters. */
const STANDARD_NAMES = new Map([['refresh-token', 'refresh_token'], ['device-code', 'device_code']])

function withStandardNames (params: ReadonlyMap<string, string>): Params {
  return new Map([...params].map(([name, value]) => [STANDARD_NAMES.get(name) ?? name, value]))
}
