import { OidcError } from '../../errors.ts'
import { now } from '../../util/time.ts'
import { demand, oauthError } from '../../provider/oauth-error.ts'
import { narrowScope } from '../request-params.ts'
import type { FastifyRequest } from 'fastify'
import type { Grant } from './index.ts'
import type { Bearer, VerifiedToken } from '../../guard/bearer.ts'
import type { Provider } from '../../provider/provider.ts'

const GRANT_TYPE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'
const JWT = 'urn:ietf:params:oauth:token-type:jwt'

/** RFC 8693: a provider's access token, of those that `bearer` takes, for one of ours. */
export const tokenExchange: Grant = {
  grantType: GRANT_TYPE,
  parameters: ['subject_token'],
  async handle ({ core, params, clientId, request }) {
    const { broker, bearer } = core
    demand(
      broker !== undefined && bearer?.settings.ofProviders === true,
      'unsupported_grant_type',
      'Tokens are not exchanged here.'
    )
    demand(
      [ACCESS_TOKEN, JWT].includes(params.get('subject_token_type') ?? ACCESS_TOKEN),
      'invalid_request',
      'The subject_token_type must be an access token.'
    )
    demand(
      [ACCESS_TOKEN, JWT].includes(params.get('requested_token_type') ?? ACCESS_TOKEN),
      'invalid_request',
      'The requested_token_type must be an access token.'
    )
    demand(!params.has('actor_token'), 'invalid_request', 'Nobody acts for another here.')
    const audience = params.get('audience') ?? params.get('resource') ?? broker.settings.audience
    demand(audience === broker.settings.audience, 'invalid_target', 'Tokens are for this application only.')
    const { claims, token, provider } = await verify(bearer, params.get('subject_token') as string, request)
    // A client is nobody: it would become somebody of that name.
    demand(!token.isClient, 'invalid_grant', 'The subject_token is of a client, not of a person.')
    // When it was issued tells whether it is from before a logout, as long as that is remembered.
    const { iat } = claims
    demand(
      typeof iat === 'number' && iat + core.settings.session.maxAge > now(),
      'invalid_grant',
      'The subject_token does not say when it was issued, or is too old.'
    )
    demand(token.expiresAt > now(), 'invalid_grant', 'The subject_token has expired.')
    const scope = narrowScope(token.scopes.join(' '), params.get('scope'))
    const answer = await broker.exchange(
      {
        provider,
        claims,
        sid: token.sid,
        authTime: token.authTime,
        acr: token.acr,
        scope,
        clientId: clientId ?? provider.settings.clientId,
        loginAt: Math.min(iat * 1000, Date.now())
      },
      token.expiresAt,
      { grantType: GRANT_TYPE, request }
    )
    return { ...answer, issued_token_type: ACCESS_TOKEN }
  }
}

/** A token of a provider, that is bound to nobody: who brings it cannot prove more here. */
async function verify (bearer: Bearer, token: string, request: FastifyRequest): Promise<VerifiedToken<Provider>> {
  try {
    return await bearer.verifySubject(token, request)
  } catch (error) {
    throw error instanceof OidcError && error.code === 'FST_OIDC_TOKEN'
      ? oauthError('invalid_grant', 'The subject_token is not valid.', error)
      : error
  }
}
