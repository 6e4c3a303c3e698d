import * as client from 'openid-client'
import { OidcError, checkWith } from '../errors.ts'
import { isRecord } from '../util/json.ts'
import { now } from '../util/time.ts'
import { namesOtherType } from './access-token.ts'
import { attempt } from './client-errors.ts'
import type { JWTPayload } from 'jose'
import type { Check } from '../errors.ts'
import type { BearerSettings } from '../options/bearer.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { Discovered } from './discovery.ts'

const check: Check = checkWith('FST_OIDC_TOKEN')

/** Asks the provider about an access token (RFC 7662) and returns its claims. Throws FST_OIDC_TOKEN. */
export async function introspect (
  { config, metadata, settings }: Discovered,
  token: string,
  rules: BearerSettings
): Promise<JWTPayload> {
  if (metadata.introspection_endpoint === undefined) {
    throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { detail: 'the provider has no introspection endpoint' })
  }
  const response = await attempt(
    'FST_OIDC_PROVIDER_RESPONSE',
    async () => await client.tokenIntrospection(config, token, { token_type_hint: 'access_token' }),
    settings
  )
  return readIntrospection(response, settings, rules)
}

/** The claims of an introspection response (RFC 7662, section 2.2), when the token is valid for this API. */
function readIntrospection (
  response: unknown,
  { issuer, clientId, clockTolerance }: ProviderSettings,
  { audience }: Pick<BearerSettings, 'audience'>
): JWTPayload {
  check(isRecord(response) && response['active'] === true, 'it is not active')
  const { iss, aud, exp, nbf, token_type: type, client_id: tokenClient } = response
  check(iss === undefined || iss === issuer, 'it is from another issuer')
  // Not every provider names an audience. Without one, the token must have been issued to this client.
  const audiences = [aud ?? []].flat()
  check(
    audiences.some((value) => audience.includes(value as string)) || (aud === undefined && tokenClient === clientId),
    'it is for another audience'
  )
  // A refresh token is active as well, and must not pass for an access token.
  check(type === undefined ? aud !== undefined : /^(?:bearer|dpop)$/i.test(String(type)), 'it is not an access token')
  check(!namesOtherType(response), 'a claim says that it is not an access token')
  check(exp === undefined || (typeof exp === 'number' && exp + clockTolerance > now()), 'it has expired')
  check(nbf === undefined || (typeof nbf === 'number' && nbf - clockTolerance <= now()), 'it is not valid yet')
  const { active: _, ...claims } = response
  return claims
}
