import { requireParam } from '../broker/request-params.ts'
import { oauthError } from '../provider/oauth-error.ts'
import { equal } from '../util/crypto.ts'
import { oauthEndpoint } from './oauth-endpoint.ts'
import type { FastifyRequest } from 'fastify'
import type { Broker } from '../broker/broker.ts'
import type { Parts } from '../compose.ts'
import type { Params } from '../http/params.ts'
import type { Endpoint } from './endpoint.ts'

/** `POST introspect` (RFC 7662), for the resource servers of the options. */
export function introspectionEndpoint ({ errorResponses }: Pick<Parts, 'errorResponses'>, broker: Broker): Endpoint {
  return oauthEndpoint(errorResponses, async (params, request) => {
    authenticate(request, params, broker.settings.resourceServers)
    const payload = await broker.introspect(requireParam(params, 'token'))
    return payload === null ? { active: false } : { active: true, token_type: 'Bearer', ...payload }
  })
}

/** client_secret_basic or client_secret_post (RFC 6749, section 2.3.1). Throws FST_OIDC_GRANT. */
function authenticate ({ headers }: FastifyRequest, params: Params, secrets: ReadonlyMap<string, string>): void {
  const [, basic] = /^basic ([\w+/]+=*)$/i.exec(headers.authorization ?? '') ?? []
  const [name, secret] = basic === undefined
    ? [params.get('client_id'), params.get('client_secret')]
    : parseBasic(basic)
  const expected = secrets.get(name ?? '')
  const isKnown = expected !== undefined && secret !== undefined && equal(secret, expected)
  if (!isKnown) throw oauthError('invalid_client', 'The resource server is not known.')
}

function parseBasic (base64: string): Array<string | undefined> {
  try {
    const parts = Buffer.from(base64, 'base64').toString().split(':')
    return parts.map((part) => decodeURIComponent(part.replaceAll('+', ' ')))
  } catch {
    return []
  }
}
