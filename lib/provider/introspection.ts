import * as client from 'openid-client'
import { checkWith } from '../errors.ts'
import { isRecord } from '../util/json.ts'
import { now } from '../util/time.ts'
import { isAccessUse, isOtherToken } from './access-token.ts'
import { attempt } from './client-errors.ts'
import { requireEndpoint } from './metadata.ts'
import { shown } from './verify-jwt.ts'
import type { JWTPayload } from 'jose'
import type { Check } from '../errors.ts'
import type { BearerSettings } from '../options/bearer.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { Discovered } from './discovery.ts'

const check: Check = checkWith('FST_OIDC_TOKEN')

/** Asks the provider about an access token (RFC 7662) and returns its claims. Throws FST_OIDC_TOKEN. */
export async function introspect (
  discovered: Discovered,
  token: string,
  rules: BearerSettings
): Promise<JWTPayload> {
  const { config, settings } = discovered
  requireEndpoint(discovered, 'introspection_endpoint', 'FST_OIDC_PROVIDER_RESPONSE')
  const response = await attempt(
    'FST_OIDC_PROVIDER_RESPONSE',
    async () => await client.tokenIntrospection(config, token, { token_type_hint: 'access_token' }),
    settings
  )
  return readIntrospection(response, settings, rules)
}

const TIMES = ['exp', 'nbf', 'iat', 'auth_time']

/** The claims of an introspection response (RFC 7662, section 2.2), when the token is valid for this API. */
function readIntrospection (
  response: unknown,
  { issuer, clientId, clockTolerance }: ProviderSettings,
  { audience, introspectionAudience }: Pick<BearerSettings, 'audience' | 'introspectionAudience'>
): JWTPayload {
  check(isRecord(response) && response['active'] === true, 'it is not active')
  const { active: _, ...claims } = withTimes(response)
  const { iss, aud, exp, nbf } = claims
  check(iss === undefined || iss === issuer, `iss was ${shown(iss)}, not ${issuer}`)
  // Not every provider names an audience. Without one, the token must have been issued to this client.
  const audiences = [aud === undefined ? [] : aud].flat().filter((value) => value !== '')
  const isOptional = introspectionAudience === 'optional'
  const isForUs = audiences.length === 0
    ? isOptional || claims['client_id'] === clientId
    : audiences.some((value) => audience.includes(value as string))
  check(isForUs, audiences.length === 0
    ? 'it names no audience, and was issued to another client; "bearer.introspectionAudience" optional accepts it'
    : `aud was ${shown(audiences)}, "bearer.audience" is ${audience.join(', ')}`)
  check(isAccessToken(claims, audiences.length > 0 || isOptional), 'it is not said to be an access token')
  check(!isOtherToken(claims), 'a claim says that it is not an access token')
  check(exp === undefined || (typeof exp === 'number' && exp + clockTolerance > now()), 'it has expired')
  check(nbf === undefined || (typeof nbf === 'number' && nbf - clockTolerance <= now()), 'it is not valid yet')
  return claims
}

// A refresh token is active as well, and must not pass for an access token.
function isAccessToken (
  { token_type: type, token_use: use }: Record<string, unknown>,
  isUntypedAccepted: boolean
): boolean {
  if (type === undefined) return isUntypedAccepted || isAccessUse(use)
  return /^(?:bearer|dpop|access_token)$/i.test(String(type))
}

/** Some providers write times as text. */
function withTimes (response: Record<string, unknown>): Record<string, unknown> {
  const texts = TIMES.filter((name) => /^\d{1,15}$/.test(typeof response[name] === 'string' ? response[name] : ''))
  return { ...response, ...Object.fromEntries(texts.map((name) => [name, Number(response[name])])) }
}
