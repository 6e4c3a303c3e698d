import { decodeProtectedHeader, errors } from 'jose'
import { OidcError } from '../errors.ts'
import { printable } from '../http/params.ts'
import { now } from '../util/time.ts'
import type { JWTPayload, JWTVerifyResult } from 'jose'
import type { LogLevel, OidcErrorCode } from '../errors.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { KeySet } from './key-set.ts'
import type { TokenRules } from './unverified-claims.ts'

/** How the log names the options that a JWT is compared with. */
export type ComparedOptions = Partial<Record<'alg' | 'iss' | 'aud', string>>

/** How a JWT is refused. */
interface Refusal {
  code: OidcErrorCode
  compared: ComparedOptions
}

/**
 * Verifies a JWT with the keys of its issuer. Throws an OidcError with this code, whose `detail` says what came and
 * what was expected, and the OidcError of keys that cannot be fetched.
 */
export async function verifyJwt (
  token: string,
  keySet: Pick<KeySet, 'verify'>,
  rules: TokenRules,
  { code, compared }: Refusal
): Promise<JWTVerifyResult> {
  try {
    return await keySet.verify(token, rules)
  } catch (cause) {
    if (cause instanceof OidcError) throw cause
    const difference = differenceOf(cause, token, rules, compared)
    const { message } = cause as Error
    const detail = difference === undefined ? message : `${message}: ${difference}`
    // Any caller can send an access token or a logout token. The others come from the provider.
    throw new OidcError(code, { cause, detail, level: FROM_PROVIDER.has(code) ? levelOf(cause) : undefined })
  }
}

/** The options that an ID token is compared with. */
export const ID_TOKEN_OPTIONS: ComparedOptions = { alg: '"idTokenSigningAlg"', iss: '"issuer"', aud: '"clientId"' }

export interface ProviderJwtRules {
  issuer: string
  requiredClaims: string[]
  code: OidcErrorCode
}

/**
 * Verifies a JWT of the provider for this client, which is signed as an ID token is: an ID token (OpenID Connect Core
 * 1.0, section 3.1.3.7) or a logout token (Back-Channel Logout 1.0, section 2.6).
 */
export async function verifyProviderJwt (
  token: string,
  keySet: Pick<KeySet, 'verify'>,
  { clientId, idTokenSigningAlg, clockTolerance }: ProviderSettings,
  { issuer, requiredClaims, code }: ProviderJwtRules
): Promise<JWTVerifyResult> {
  const rules = { issuer, audience: clientId, algorithms: [idTokenSigningAlg], clockTolerance, requiredClaims }
  return await verifyJwt(token, keySet, rules, { code, compared: ID_TOKEN_OPTIONS })
}

const FROM_PROVIDER: ReadonlySet<OidcErrorCode> = new Set(['FST_OIDC_ID_TOKEN', 'FST_OIDC_USERINFO'])

function differenceOf (
  cause: unknown,
  token: string,
  rules: TokenRules,
  options: ComparedOptions
): string | undefined {
  if (isAboutClaim(cause)) return claimDifference(cause, rules, options)
  if (cause instanceof errors.JOSEAlgNotAllowed) {
    return `signed with ${shown(decodeProtectedHeader(token).alg)}, ${options.alg} is ${shown(rules.algorithms)}`
  }
  if (cause instanceof errors.JWKSNoMatchingKey) {
    const { kid, alg } = decodeProtectedHeader(token)
    return `kid ${shown(kid)}, alg ${shown(alg)}`
  }
  return undefined
}

type AboutClaim = errors.JWTExpired | errors.JWTClaimValidationFailed

function isAboutClaim (cause: unknown): cause is AboutClaim {
  return cause instanceof errors.JWTExpired || cause instanceof errors.JWTClaimValidationFailed
}

function claimDifference (
  { claim, payload }: AboutClaim,
  rules: TokenRules,
  options: ComparedOptions
): string | undefined {
  const value = payload[claim]
  if (value === undefined) return undefined
  if (claim === 'iss') return `iss was ${shown(value)}, ${options.iss} is ${shown(rules.issuer)}`
  if (claim === 'aud') return `aud was ${shown(value)}, ${options.aud} is ${shown(rules.audience)}`
  return isTime(claim) && typeof value === 'number' ? describeTime(claim, value) : undefined
}

const isTime = (claim: string): boolean => claim === 'exp' || claim === 'nbf'

/** A time that the clocks of two machines disagree about. */
export function describeTime (claim: keyof JWTPayload, value: number): string {
  const seconds = Math.round(value) - now()
  const distance = Math.abs(seconds).toLocaleString('en')
  return `${claim} is ${distance} s ${seconds > 0 ? 'ahead' : 'ago'}: compare the clocks, or raise "clockTolerance"`
}

// Only an operator can change an option.
function levelOf (cause: unknown): LogLevel | undefined {
  const isOfOption = isAboutClaim(cause) && ['iss', 'aud'].includes(cause.claim)
  return isOfOption || cause instanceof errors.JOSEAlgNotAllowed ? 'error' : undefined
}

/** A value of a token, for the log. */
export function shown (value: unknown): string {
  return printable(String(typeof value === 'string' ? value : JSON.stringify(value)))
}
