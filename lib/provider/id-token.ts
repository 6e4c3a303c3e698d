import { hash } from 'node:crypto'
import { asOidcError, checkWith } from '../errors.ts'
import { equal } from '../util/crypto.ts'
import { now } from '../util/time.ts'
import type { JWTHeaderParameters, JWTPayload, JWTVerifyResult } from 'jose'
import type { Check } from '../errors.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { KeySet } from './key-set.ts'
import type { IdTokenClaims } from '../../types/claims.ts'

export interface IdTokenExpectations {
  issuer: string
  /** `undefined` when no authorization request sent one, as for a refresh (OpenID Connect Core 1.0, section 12.2). */
  nonce: string | undefined
  accessToken: string
  maxAge?: number | undefined
  acrValues?: string[] | undefined
}

const check: Check = checkWith('FST_OIDC_ID_TOKEN')

/**
 * Verifies an ID token and returns its claims: signature and claims (OpenID Connect Core 1.0, section 3.1.3.7), and
 * the checks of RFC 8725 that apply. Throws FST_OIDC_ID_TOKEN.
 */
export async function verifyIdToken (
  idToken: string,
  keySet: KeySet,
  settings: ProviderSettings,
  expected: IdTokenExpectations
): Promise<IdTokenClaims> {
  const { payload, protectedHeader } = await verifySignature(idToken, keySet, settings, expected.issuer)
  checkType(protectedHeader, payload)
  checkSubject(payload)
  checkAudience(payload, settings)
  checkTimes(payload, settings.clockTolerance)
  checkNonce(payload, expected.nonce)
  checkAuthentication(payload, settings.clockTolerance, expected)
  checkAccessTokenHash(payload, protectedHeader.alg, expected.accessToken)
  return payload as IdTokenClaims
}

async function verifySignature (
  idToken: string,
  keySet: KeySet,
  { clientId, idTokenSigningAlg, clockTolerance }: ProviderSettings,
  issuer: string
): Promise<JWTVerifyResult> {
  return await keySet
    .verify(idToken, {
      issuer,
      audience: clientId,
      algorithms: [idTokenSigningAlg],
      clockTolerance,
      requiredClaims: ['sub', 'iat', 'exp']
    })
    .catch(asOidcError('FST_OIDC_ID_TOKEN'))
}

// Another kind of JWT must not pass for an ID token (RFC 8725, section 3.11).
function checkType ({ typ }: JWTHeaderParameters, payload: JWTPayload): void {
  check(
    typ === undefined || (typeof typ === 'string' && !typ.toLowerCase().endsWith('+jwt')),
    'typ names another kind of token'
  )
  check(!('events' in payload), 'events belongs to a logout token')
}

function checkSubject ({ sub }: JWTPayload): void {
  check(typeof sub === 'string' && sub !== '' && sub.length <= 255, 'sub must be a string of 1 to 255 characters')
}

function checkAudience (payload: JWTPayload, { clientId, trustedAudiences }: ProviderSettings): void {
  const audiences = Array.isArray(payload.aud) ? payload.aud : [payload.aud]
  check(
    audiences.every((aud) => aud === clientId || trustedAudiences.includes(aud as string)),
    'aud names an audience that is not trusted'
  )
  const azp = payload['azp']
  check(azp === undefined ? audiences.length === 1 : azp === clientId, 'azp must be this client')
}

function checkTimes ({ iat, exp, auth_time: authTime }: JWTPayload, tolerance: number): void {
  check(Number.isSafeInteger(Math.floor(exp as number)), 'exp is out of range')
  check(typeof iat === 'number' && iat <= now() + tolerance, 'iat is in the future')
  check(
    authTime === undefined || (typeof authTime === 'number' && authTime <= now() + tolerance),
    'auth_time must be a time in the past'
  )
}

function checkNonce (payload: JWTPayload, nonce: string | undefined): void {
  const value = payload['nonce']
  if (nonce !== undefined) check(typeof value === 'string' && equal(value, nonce), 'nonce does not match the request')
}

function checkAuthentication (
  payload: JWTPayload,
  tolerance: number,
  { maxAge, acrValues }: IdTokenExpectations
): void {
  if (maxAge !== undefined) {
    const authTime = payload['auth_time']
    check(typeof authTime === 'number' && authTime + maxAge + tolerance >= now(), 'auth_time is older than max_age')
  }
  if (acrValues !== undefined) {
    check(acrValues.includes(payload['acr'] as string), 'acr is not one of the requested acr_values')
  }
}

// OpenID Connect Core 1.0, section 3.1.3.8
function checkAccessTokenHash (payload: JWTPayload, alg: string, accessToken: string): void {
  const value = payload['at_hash']
  if (value === undefined) return
  const digest = hash(hashOf(alg), accessToken, 'buffer')
  const expected = digest.subarray(0, digest.length / 2).toString('base64url')
  check(typeof value === 'string' && equal(value, expected), 'at_hash does not match the access token')
}

function hashOf (alg: string): string {
  const bits = /(?:256|384|512)$/.exec(alg)?.[0] ?? '512' // EdDSA uses SHA-512 (RFC 8032, section 5.1)
  return `sha${bits}`
}
