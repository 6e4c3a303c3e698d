import { hasCode } from '../errors.ts'
import type { FastifyRequest } from 'fastify'
import type { Telemetry } from '../telemetry.ts'
import type { AccessToken } from './access-token.ts'
import type { Sessions } from './sessions.ts'
import type { UserinfoClaims } from '../../types/claims.ts'

/** The current UserInfo claims of a session's user. Throws an OidcError. */
export type Userinfo = (request: FastifyRequest) => Promise<UserinfoClaims>

export interface UserinfoParts {
  sessions: Sessions
  accessToken: AccessToken
  telemetry: Telemetry
}

export function createUserinfo ({ sessions, accessToken, telemetry }: UserinfoParts): Userinfo {
  async function fetchClaims (request: FastifyRequest, token: string): Promise<UserinfoClaims> {
    const sub = sessions.read(request)?.claims.sub as string
    const provider = sessions.provider(request)
    return await telemetry.span('oidc.userinfo', { 'oidc.provider': provider.name }, async () =>
      await provider.userinfo(token, sub))
  }

  return async function userinfo (request) {
    const token = await accessToken(request)
    try {
      return await fetchClaims(request, token)
    } catch (error) {
      // The provider may revoke a token before it expires. Only a 401 is worth another try
      // (RFC 6750, section 3.1).
      const isRefused = hasCode(error, 'FST_OIDC_LOGIN_REQUIRED')
      if (!isRefused || (await sessions.tokens(request)).refresh_token === undefined) throw error
      return await fetchClaims(request, await accessToken(request, { refresh: true }))
    }
  }
}
