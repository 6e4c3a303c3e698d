import { demand } from '../../provider/oauth-error.ts'
import { requireParam } from '../request-params.ts'
import { authorizationCode } from './authorization-code.ts'
import { deviceCode } from './device-code.ts'
import { refreshToken } from './refresh-token.ts'
import { tokenExchange } from './token-exchange.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Core } from '../../compose.ts'
import type { Params } from '../../http/params.ts'
import type { TokenResponse } from '../token-response.ts'

/** One way to get tokens (RFC 6749, section 1.3). */
export interface Grant {
  grantType: string
  /** Those that must be there. */
  parameters: string[]
  /** The answer; `null` when the application has answered itself. Throws FST_OIDC_GRANT. */
  handle: (context: GrantContext) => Promise<TokenResponse | null>
}

export interface GrantContext {
  core: Core
  params: Params
  clientId: string | undefined
  request: FastifyRequest
  reply: FastifyReply
}

export const grants: readonly Grant[] = [authorizationCode, refreshToken, deviceCode, tokenExchange]

/**
 * The grant of a request; py-oidc-auth-client leaves the grant_type out, and what else it sends tells. Throws
 * FST_OIDC_GRANT.
 */
export function findGrant (params: Params): Grant {
  const grantType = params.get('grant_type')
  const grant =
    grantType === undefined
      ? grants.find(({ parameters }) => parameters.every((name) => params.has(name)))
      : grants.find((one) => one.grantType === grantType)
  demand(
    grant !== undefined,
    grantType === undefined ? 'invalid_request' : 'unsupported_grant_type',
    grantType === undefined ? 'The grant_type is missing.' : 'The grant_type is not one of those here.'
  )
  for (const name of grant.parameters) requireParam(params, name)
  return grant
}
