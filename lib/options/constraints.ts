import { isRecord } from '../util/json.ts'
import { check } from './check.ts'
import type { ClaimValue } from '../../types/options.ts'

/** Accepted values by the path of the claim, as in `required({ claims })`. */
export function parseClaimConstraints (value: unknown, key: string): Record<string, ClaimValue | ClaimValue[]> {
  check(isRecord(value), `"${key}" must be an object`)
  for (const [path, accepted] of Object.entries(value)) {
    const values = [accepted].flat()
    check(values.length > 0 && values.every(isClaimValue), `"${key}" must give ${path} a value or values`)
  }
  return value as Record<string, ClaimValue | ClaimValue[]>
}

function isClaimValue (value: unknown): value is ClaimValue {
  return ['string', 'number', 'boolean'].includes(typeof value)
}

/** `max_age` (OpenID Connect Core 1.0, section 3.1.2.1), in whole seconds. */
export function parseMaxAge (value: unknown): number | undefined {
  if (value === undefined) return undefined
  const isSeconds = Number.isInteger(value) && (value as number) >= 0
  check(isSeconds, '"maxAge" must be a number of seconds')
  return value as number
}
