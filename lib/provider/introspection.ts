import { saysOtherwise } from './access-token.ts'
import { OidcError } from '../errors.ts'
import { isRecord } from '../util/json.ts'
import { now } from '../util/time.ts'
import type { BearerSettings } from '../options/bearer.ts'
import type { JWTPayload } from 'jose'
import type { ProviderSettings } from '../options/provider.ts'

/**
 * The claims in the answer to an introspection (RFC 7662, section 2.2), when the token is good for this API.
 * Throws FST_OIDC_TOKEN.
 */
export function readIntrospection (
  answer: unknown,
  { issuer, clientId, clockTolerance }: ProviderSettings,
  { audience }: Pick<BearerSettings, 'audience'>
): JWTPayload {
  check(isRecord(answer) && answer['active'] === true, 'it is not active')
  const { iss, aud, exp, nbf, token_type: type, client_id: client } = answer
  check(iss === undefined || iss === issuer, 'it is of another issuer')
  // Not every provider names an audience; a token that was issued to this very client is meant for it.
  const audiences = [aud ?? []].flat()
  check(
    audiences.some((value) => audience.includes(value as string)) || (aud === undefined && client === clientId),
    'it is for another audience'
  )
  // The refresh tokens of that client are active as well.
  check(type === undefined ? aud !== undefined : /^(?:bearer|dpop)$/i.test(String(type)), 'it is no access token')
  check(!saysOtherwise(answer), 'it says that it is no access token')
  check(exp === undefined || (typeof exp === 'number' && exp + clockTolerance > now()), 'it has expired')
  check(nbf === undefined || (typeof nbf === 'number' && nbf - clockTolerance <= now()), 'it is not good yet')
  const { active: _, ...claims } = answer
  return claims
}

function check (condition: boolean, detail: string): asserts condition {
  if (!condition) throw new OidcError('FST_OIDC_TOKEN', { detail })
}
