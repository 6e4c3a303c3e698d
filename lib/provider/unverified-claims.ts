import { decodeJwt } from 'jose'
import { now } from '../util/time.ts'
import type { JWTPayload, JWTVerifyOptions } from 'jose'

/** What a token must be. */
export interface TokenRules extends JWTVerifyOptions {
  /** Whether a token with these claims is for this application, where more than `audience` says so. */
  isForUs?: (claims: JWTPayload) => boolean
}

/**
 * Whether a token may be accepted if its signature is right, as far as issuer, audience and expiry tell. For another
 * one no keys need be fetched. Throws an error of jose when it is no JWT.
 */
export function mayFit (token: string, { issuer, audience, isForUs, clockTolerance = 0 }: TokenRules): boolean {
  const claims = decodeJwt(token)
  const { iss, aud, exp } = claims
  const isOver = exp !== undefined && !(typeof exp === 'number' && exp + Number(clockTolerance) > now())
  return !isOver && isOneOf(issuer, iss) && isOneOf(audience, aud) && isForUs?.(claims) !== false
}

/** As jose compares: without an expected value, any fits. */
function isOneOf (expected: string | string[] | undefined, value: unknown): boolean {
  if (expected === undefined) return true
  const accepted: unknown[] = [expected].flat()
  return [value].flat().some((entry) => accepted.includes(entry))
}
