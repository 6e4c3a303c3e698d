import { formParams } from '../http/params.ts'
import { report } from '../http/error-response.ts'
import { demand, outageCode } from '../provider/oauth-error.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Core } from '../compose.ts'
import type { OidcError } from '../errors.ts'
import type { Params } from '../http/params.ts'
import type { Endpoint } from './index.ts'

/** Tokens are long. */
const MAX_VALUE = 16_384 // characters

/** An endpoint for programs: a form comes in, JSON or an error of OAuth goes out (RFC 6749, section 5.2). */
export function oauthEndpoint (
  core: Core,
  handle: (params: Params, request: FastifyRequest, reply: FastifyReply) => Promise<object | null>
): Endpoint {
  return {
    async POST (request, reply) {
      try {
        const answer = await handle(formParams(request, MAX_VALUE), request, reply)
        if (answer !== null) reply.send(answer)
      } catch (cause) {
        refuseOAuth(report(core, cause, request), reply)
      }
      return reply
    }
  }
}

/**
 * The client that a request names; it needs no secret, as none could be kept (RFC 8252, section 8.5). Throws
 * FST_OIDC_GRANT.
 */
export function clientIdOf ({ broker, settings }: Core, params: Params): string | undefined {
  const clientId = params.get('client_id')
  const known = [
    ...(broker?.settings.nativeClients?.clientIds ?? []),
    ...[...settings.providers.values()].map((provider) => provider.clientId)
  ]
  demand(clientId === undefined || known.includes(clientId), 'invalid_client', 'The client is not known.')
  return clientId
}

function refuseOAuth (error: OidcError, reply: FastifyReply): void {
  const name = codeOf(error)
  if (name === 'invalid_client') reply.header('www-authenticate', 'Basic realm="OAuth"') // RFC 6749, section 5.2
  if (error.statusCode === 503) reply.header('retry-after', error.retryAfter ?? 5)
  // py-oidc-auth-client looks for `detail`.
  reply
    .code(name === 'invalid_client' ? 401 : error.statusCode >= 500 ? error.statusCode : 400)
    .send({ error: name, error_description: error.message, detail: error.message })
}

function codeOf (error: OidcError): string {
  return (
    error.oauthError ?? outageCode(error) ?? (error.code === 'FST_OIDC_CLAIMS' ? 'access_denied' : 'invalid_request')
  )
}
