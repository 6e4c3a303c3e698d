import { demand, oauthError } from '../../provider/oauth-error.ts'
import { now } from '../../util/time.ts'
import { narrowScope } from '../request-params.ts'
import type { FastifyRequest } from 'fastify'
import type { OidcError } from '../../errors.ts'
import type { Bearer } from '../../guard/bearer.ts'
import type { VerifiedToken } from '../../guard/verified-token.ts'
import type { Params } from '../../http/params.ts'
import type { Provider } from '../../provider/provider.ts'
import type { EndedSessions } from '../../session/ended-sessions.ts'
import type { Broker } from '../broker.ts'
import type { GrantType } from './grant-type.ts'
import type { OidcClaims } from '../../../types/claims.ts'

const GRANT_TYPE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'
const JWT = 'urn:ietf:params:oauth:token-type:jwt'

export interface TokenExchangeParts {
  broker: Broker | undefined
  bearer: Bearer | undefined
  endedSessions: Pick<EndedSessions, 'loginTime'>
  /** How long logouts are remembered, in seconds. */
  maxAge: number
}

/** RFC 8693: exchanges an access token of a provider, which `bearer` accepts, for one of the broker. */
export function createTokenExchange ({ broker, bearer, endedSessions, maxAge }: TokenExchangeParts): GrantType {
  /** When the token was issued, in seconds since the epoch: it may be from before a logout that is no longer known. */
  function issuedAt ({ iat }: OidcClaims): number {
    const isKnown = typeof iat === 'number' && iat + maxAge > now()
    demand(isKnown, 'invalid_grant', 'The subject_token does not say when it was issued, or is too old.')
    return iat as number
  }

  return {
    grantType: GRANT_TYPE,
    parameters: ['subject_token'],
    async handle ({ params, clientId, request }) {
      const isOffered = broker !== undefined && bearer?.settings.ofProviders === true
      demand(isOffered, 'unsupported_grant_type', 'Tokens are not exchanged here.')
      checkRequest(params, broker.settings.audience)
      const { claims, token, provider } = await verifySubject(bearer, params.get('subject_token') as string, request)
      // A client is not a user: its name could be the `sub` of a user.
      demand(!token.isClient, 'invalid_grant', 'The subject_token is of a client, not of a user.')
      const loginAt = Math.min(issuedAt(claims) * 1000, await endedSessions.loginTime())
      demand(token.expiresAt > now(), 'invalid_grant', 'The subject_token has expired.')
      const { sid, authTime, acr } = token
      const scope = narrowScope(token.scopes.join(' '), params.get('scope'))
      const client = clientId ?? provider.settings.clientId
      const subject = { provider, claims, sid, authTime, acr, scope, clientId: client, loginAt }
      const issued = await broker.exchange(subject, token.expiresAt, { grantType: GRANT_TYPE, request })
      return { ...issued, response: { ...issued.response, issued_token_type: ACCESS_TOKEN } }
    }
  }
}

function checkRequest (params: Params, ownAudience: string): void {
  for (const name of ['subject_token_type', 'requested_token_type']) {
    const isAccessToken = [ACCESS_TOKEN, JWT].includes(params.get(name) ?? ACCESS_TOKEN)
    demand(isAccessToken, 'invalid_request', `The ${name} must be an access token.`)
  }
  demand(!params.has('actor_token'), 'invalid_request', 'An actor_token is not accepted here.')
  const audience = params.get('audience') ?? params.get('resource') ?? ownAudience
  demand(audience === ownAudience, 'invalid_target', 'Tokens are for this application only.')
}

/** Verifies the provider's token. It must not be bound to a key, because the client cannot prove that key here. */
async function verifySubject (
  bearer: Bearer,
  token: string,
  request: FastifyRequest
): Promise<VerifiedToken<Provider>> {
  try {
    return await bearer.verifySubject(token, request)
  } catch (error) {
    const { code } = Object(error) as Partial<OidcError>
    if (code === 'FST_OIDC_FORBIDDEN') throw oauthError('invalid_grant', 'The subject_token is not of a user.', error)
    if (code !== 'FST_OIDC_TOKEN') throw error
    throw oauthError('invalid_grant', 'The subject_token is not valid.', error)
  }
}
