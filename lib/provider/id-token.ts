import { hash } from 'node:crypto'
import { decodeJwt } from 'jose'
import { OidcError, asOidcError, checkWith } from '../errors.ts'
import { printable } from '../http/params.ts'
import { en } from '../pages/languages/en.ts'
import { LateError } from '../util/at-most.ts'
import { equal } from '../util/crypto.ts'
import { hasFewLevels } from '../util/json.ts'
import { now } from '../util/time.ts'
import { describeTime, shown, verifyProviderJwt } from './verify-jwt.ts'
import type { JWTHeaderParameters, JWTPayload } from 'jose'
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
  /** Whether the request has `prompt=login`. */
  promptsLogin?: boolean | undefined
}

const check: Check = checkWith('FST_OIDC_ID_TOKEN')

/**
 * Verifies an ID token and returns its claims: signature and claims (OpenID Connect Core 1.0, section 3.1.3.7), and
 * the checks of RFC 8725 that apply. Throws FST_OIDC_ID_TOKEN, with the `oauthError` UNMET when the provider did not
 * ask the user again.
 */
export async function verifyIdToken (
  idToken: string,
  keySet: Pick<KeySet, 'verify'>,
  settings: ProviderSettings,
  expected: IdTokenExpectations
): Promise<IdTokenClaims> {
  const { payload: claims, protectedHeader } = await verifyProviderJwt(idToken, keySet, settings, {
    issuer: expected.issuer, requiredClaims: ['sub', 'iat', 'exp'], code: 'FST_OIDC_ID_TOKEN'
  })
  const payload = withoutUnusual(claims)
  check(hasFewLevels(payload), 'its claims have too many levels')
  checkType(protectedHeader, payload)
  checkSubject(payload)
  await checkAudience(payload, settings)
  checkTimes(payload, settings.clockTolerance)
  checkNonce(payload, expected.nonce)
  checkAccessTokenHash(payload, protectedHeader.alg, expected.accessToken)
  checkAcr(payload, expected)
  return { ...payload, ...authTimeOf(claims, settings, expected) } as IdTokenClaims
}

/**
 * The claims of an ID token that is not verified. They can only refuse: keys that cannot be fetched must not hide that
 * an ID token is of another user. Throws FST_OIDC_ID_TOKEN when it is of another issuer or client.
 */
export function readUnverified (
  idToken: string,
  { clientId }: Pick<ProviderSettings, 'clientId'>,
  issuer: string
): IdTokenClaims {
  const { iss, aud, ...claims } = decode(idToken)
  check(iss === issuer, `iss was ${shown(iss)}, not ${issuer}`)
  check([aud].flat().includes(clientId), `aud was ${shown(aud)}, without ${clientId}`)
  return { ...withoutUnusual(claims), iss, aud } as IdTokenClaims
}

function decode (idToken: string): JWTPayload {
  try {
    return decodeJwt(idToken)
  } catch (cause) {
    return asOidcError('FST_OIDC_ID_TOKEN')(cause)
  }
}

/** Some providers write claims that they do not have as `null`, or `auth_time` as text. Those count as absent. */
function withoutUnusual ({ auth_time: authTime, at_hash: hash, ...payload }: JWTPayload): JWTPayload {
  return {
    ...payload,
    ...(authTime !== null && typeof authTime !== 'string' && { auth_time: authTime }),
    ...(hash !== null && { at_hash: hash })
  }
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

async function checkAudience (payload: JWTPayload, settings: ProviderSettings): Promise<void> {
  const { clientId } = settings
  const audiences = [payload.aud].flat() as string[]
  for (const audience of audiences.filter((aud) => aud !== clientId)) {
    check(
      await isTrusted(audience, settings),
      `aud names ${printable(JSON.stringify(audience))}, which is not among "trustedAudiences"`
    )
  }
  const azp = payload['azp']
  check(azp === undefined ? audiences.length === 1 : azp === clientId, 'azp must be this client')
}

// Anything but `true` is a refusal, and so a function that forgets to return trusts nothing.
async function isTrusted (audience: unknown, { isTrustedAudience }: ProviderSettings): Promise<boolean> {
  try {
    return typeof audience === 'string' && await isTrustedAudience(audience) === true
  } catch (cause) {
    const statusCode = cause instanceof LateError ? cause.statusCode : undefined
    throw new OidcError('FST_OIDC_UNEXPECTED', { cause, statusCode, detail: 'the function "trustedAudiences" failed' })
  }
}

function checkTimes ({ iat, exp, auth_time: authTime }: JWTPayload, tolerance: number): void {
  check(Number.isSafeInteger(Math.floor(exp as number)), 'exp is out of range')
  check(typeof iat === 'number', 'iat is no number')
  if (iat > now() + tolerance) throw new OidcError('FST_OIDC_ID_TOKEN', { detail: describeTime('iat', iat) })
  check(
    authTime === undefined || (typeof authTime === 'number' && authTime <= now() + tolerance),
    'auth_time must be a time in the past'
  )
}

function checkNonce (payload: JWTPayload, nonce: string | undefined): void {
  const value = payload['nonce']
  if (nonce !== undefined) check(typeof value === 'string' && equal(value, nonce), 'nonce does not match the request')
}

function checkAcr (payload: JWTPayload, { acrValues }: IdTokenExpectations): void {
  if (acrValues === undefined) return
  check(acrValues.includes(payload['acr'] as string), 'acr is not one of the requested acr_values')
}

/** The provider did not do what the request demanded (Unmet Authentication Requirements 1.0, section 2). */
export const UNMET = 'unmet_authentication_requirements'

/**
 * Checks `auth_time` when the request has a `max_age`. A provider that ignores `max_age` often has no `auth_time`.
 * After `prompt=login` it has asked the user, so the option `authTime` can accept the time of this login. An older
 * `auth_time`, or one that is no number, shows that it has not asked.
 */
function authTimeOf (
  payload: JWTPayload,
  { clockTolerance, authTime: demanded }: ProviderSettings,
  { maxAge, promptsLogin = false }: IdTokenExpectations
): { auth_time?: number } {
  if (maxAge === undefined) return {}
  const authTime = payload['auth_time']
  if (authTime === undefined) {
    if (promptsLogin && demanded === 'optional') return { auth_time: now() }
    throw notAskedAgain('auth_time is missing, although the request has max_age. If the provider ignores max_age, but ' +
      'asks the user when it gets prompt=login, set "authTime" to "optional"')
  }
  if (typeof authTime !== 'number') throw notAskedAgain(`auth_time is ${JSON.stringify(authTime)}, not a number`)
  const isRecent = authTime + maxAge + clockTolerance >= now()
  if (!isRecent) throw notAskedAgain(`auth_time is ${authTime}, at ${now()} older than max_age ${maxAge}`)
  return {}
}

function notAskedAgain (detail: string): OidcError {
  return new OidcError('FST_OIDC_ID_TOKEN', {
    message: en.notAskedAgain,
    detail,
    oauthError: UNMET
  })
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
