import { requireParam } from '../broker/request-params.ts'
import { oauthEndpoint } from './oauth-endpoint.ts'
import type { Broker } from '../broker/broker.ts'
import type { Parts } from '../compose.ts'
import type { Endpoint } from './endpoint.ts'

/** `POST revoke` (RFC 7009): ends the grant of a token. The answer does not tell whether the token was valid. */
export function revocationEndpoint ({ errorResponses }: Pick<Parts, 'errorResponses'>, broker: Broker): Endpoint {
  return oauthEndpoint(errorResponses, async (params) => {
    await broker.revokeToken(requireParam(params, 'token'))
    return {}
  })
}
