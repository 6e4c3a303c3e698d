import * as client from 'openid-client'
import { OidcError } from '../errors.ts'
import { attempt } from './client-errors.ts'
import { endpointOf } from './discovery.ts'
import { readUserinfo, userinfoType } from './userinfo-response.ts'
import type { Discovered } from './discovery.ts'
import type { UserinfoClaims } from '../../types/claims.ts'

/** Asks the UserInfo endpoint for the claims of a user (OpenID Connect Core 1.0, section 5.3). */
export async function fetchUserinfo (
  { config, metadata, keySet, settings }: Discovered,
  accessToken: string,
  sub: string
): Promise<UserinfoClaims> {
  const endpoint = endpointOf(metadata, settings, 'userinfo_endpoint')
  if (endpoint === undefined) {
    throw new OidcError('FST_OIDC_USERINFO', { detail: 'the provider has no UserInfo endpoint' })
  }
  const url = new URL(endpoint)
  const headers = new Headers({ accept: userinfoType(settings) })
  const response = await attempt(
    'FST_OIDC_USERINFO',
    async () => await client.fetchProtectedResource(config, accessToken, url, 'GET', undefined, headers)
  )
  return await readUserinfo(response, sub, keySet, settings)
}
