import { setRetryAfter } from '../http/error-response.ts'
import { checkedFormParams } from '../http/params.ts'
import { sendJson } from '../http/send-json.ts'
import { outageCode } from '../provider/oauth-error.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { OidcError, OidcErrorCode } from '../errors.ts'
import type { ErrorResponses } from '../http/error-response.ts'
import type { Endpoint } from './endpoint.ts'

/** The limit for one parameter, in characters: tokens are long. */
const MAX_VALUE = 16_384

export type OAuthHandler = (
  params: ReadonlyMap<string, string>,
  request: FastifyRequest,
  reply: FastifyReply
) => Promise<object | null>

/** An endpoint for programs: it takes a form, and answers with JSON or an OAuth error (RFC 6749, section 5.2). */
export function oauthEndpoint ({ report }: Pick<ErrorResponses, 'report'>, handle: OAuthHandler): Endpoint {
  return {
    async POST (request, reply) {
      try {
        const answer = await handle(checkedFormParams(request, MAX_VALUE), request, reply)
        if (answer !== null) sendJson(reply, answer)
      } catch (cause) {
        sendOAuthError(report(cause, request), reply)
      }
      return reply
    }
  }
}

function sendOAuthError (error: OidcError, reply: FastifyReply): void {
  const name = oauthCodeOf(error)
  if (name === 'invalid_client') reply.header('www-authenticate', 'Basic realm="OAuth"') // RFC 6749, section 5.2
  setRetryAfter(reply, error)
  reply.code(statusOf(error, name))
  // py-oidc-auth-client reads `detail`.
  sendJson(reply, { error: name, error_description: error.message, detail: error.message })
}

function statusOf ({ statusCode }: OidcError, name: string): number {
  if (name === 'invalid_client') return 401
  return statusCode >= 500 ? statusCode : 400
}

/** The error codes that tell a program that another login may help, or that none does. */
const LOGIN_ERRORS: Partial<Record<OidcErrorCode, string>> = {
  FST_OIDC_CLAIMS: 'access_denied',
  FST_OIDC_LOGIN_REQUIRED: 'invalid_grant'
}

function oauthCodeOf (error: OidcError): string {
  return error.oauthError ?? outageCode(error) ?? LOGIN_ERRORS[error.code] ?? 'invalid_request'
}
