import * as client from 'openid-client'
import { attempt } from './client-errors.ts'
import { requireEndpoint } from './metadata.ts'
import { readUserinfo, userinfoType } from './userinfo-response.ts'
import type { Discovered } from './discovery.ts'
import type { UserinfoClaims } from '../../types/claims.ts'

/**
 * Asks the UserInfo endpoint for the claims of a user (OpenID Connect Core 1.0, section 5.3). Throws
 * FST_OIDC_LOGIN_REQUIRED when the provider does not accept the access token.
 */
export async function fetchUserinfo (
  discovered: Discovered,
  accessToken: string,
  sub: string
): Promise<UserinfoClaims> {
  const { config, keySet, settings } = discovered
  const url = new URL(requireEndpoint(discovered, 'userinfo_endpoint', 'FST_OIDC_USERINFO'))
  const headers = new Headers({ accept: userinfoType(settings) })
  const response = await attempt(
    'FST_OIDC_USERINFO',
    async () => await client.fetchProtectedResource(config, accessToken, url, 'GET', undefined, headers)
      .catch(challengeOf)
  )
  return await readUserinfo(response, sub, keySet.ofLogins, settings)
}

// A response with a challenge is read like every other one.
function challengeOf (error: unknown): Response {
  if (error instanceof client.WWWAuthenticateChallengeError) return error.response
  throw error
}
