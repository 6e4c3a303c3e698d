import { hash } from 'node:crypto'
import { OidcError } from '../errors.ts'
import { now } from '../util/time.ts'
import type { JWTHeaderParameters, JWTPayload } from 'jose'
import type { KeySet } from './key-set.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { IdTokenClaims } from '../../types/claims.ts'
import { equal } from '../util/crypto.ts'

export interface IdTokenExpectations {
  issuer: string
  /** `undefined` after a refresh, where the token may go without (OpenID Connect Core 1.0, section 12.2). */
  nonce: string | undefined
  accessToken: string
  maxAge?: number | undefined
  acrValues?: string[] | undefined
}

/**
 * Every check of OpenID Connect Core 1.0, section 3.1.3.7, and those of RFC 8725 that apply,
 * signature included. Throws FST_OIDC_ID_TOKEN.
 */
export async function verifyIdToken (
  idToken: string, keySet: KeySet, settings: ProviderSettings, expected: IdTokenExpectations
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

async function verifySignature (idToken: string, keySet: KeySet, settings: ProviderSettings, issuer: string) {
  try {
    return await keySet.verify(idToken, {
      issuer,
      audience: settings.clientId,
      algorithms: [settings.idTokenSigningAlg],
      clockTolerance: settings.clockTolerance,
      requiredClaims: ['sub', 'iat', 'exp']
    })
  } catch (cause) {
    if (cause instanceof OidcError) throw cause
    throw new OidcError('FST_OIDC_ID_TOKEN', { cause, detail: describe(cause) })
  }
}

function describe (cause: unknown): string {
  const { code, message } = cause as { code?: string, message?: string }
  return `${String(code)}: ${String(message)}`
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
  if (nonce !== undefined) check(typeof value === 'string' && equal(value, nonce), 'nonce is not the one that was sent')
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
    check(acrValues.includes(payload['acr'] as string), 'acr is none of those that were asked for')
  }
}

// OpenID Connect Core 1.0, section 3.1.3.8
function checkAccessTokenHash (payload: JWTPayload, alg: string, accessToken: string): void {
  const value = payload['at_hash']
  if (value === undefined) return
  const digest = hash(hashOf(alg), accessToken, 'buffer')
  const expected = digest.subarray(0, digest.length / 2).toString('base64url')
  check(typeof value === 'string' && equal(value, expected), 'at_hash does not fit the access token')
}

function hashOf (alg: string): string {
  const bits = /(?:256|384|512)$/.exec(alg)?.[0] ?? '512' // EdDSA hashes with SHA-512 (RFC 8032, section 5.1)
  return `sha${bits}`
}

function check (condition: boolean, detail: string): asserts condition {
  if (!condition) throw new OidcError('FST_OIDC_ID_TOKEN', { detail })
}
