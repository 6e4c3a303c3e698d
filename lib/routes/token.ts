import { findGrant } from '../broker/grant-types/index.ts'
import { clientIdOf, oauthEndpoint } from './oauth-endpoint.ts'
import type { Core } from '../compose.ts'
import type { Params } from '../http/params.ts'
import type { Endpoint } from './index.ts'

/** `POST token` (RFC 6749, section 3.2): a table of grants. */
export function tokenEndpoint (core: Core): Endpoint {
  return oauthEndpoint(core, async (sent, request, reply) => {
    const params = withUsualNames(sent)
    const grant = findGrant(params)
    const clientId = clientIdOf(core, params)
    return await core.telemetry.span('oidc.grant', async () => {
      try {
        const answer = await grant.handle({ core, params, clientId, request, reply })
        core.telemetry.granted(grant.grantType, 'success')
        return answer
      } catch (error) {
        core.telemetry.granted(grant.grantType, 'failure')
        throw error
      }
    })
  })
}

/** py-oidc-auth-client has names of its own. */
const USUAL_NAMES = new Map([['refresh-token', 'refresh_token'], ['device-code', 'device_code']])

function withUsualNames (params: Params): Params {
  return new Map([...params].map(([name, value]) => [USUAL_NAMES.get(name) ?? name, value]))
}
