import type { ClaimValue } from '../../types/options.ts'
import { check } from './check.ts'
import { isRecord } from '../util/json.ts'

export function isClaimValue (value: unknown): value is ClaimValue {
  return ['string', 'number', 'boolean'].includes(typeof value)
}

/** Constraints on claims by path, as in `required({ claims })`. */
export function parseClaimConstraints (value: unknown, key: string): Record<string, ClaimValue | ClaimValue[]> {
  check(isRecord(value), `"${key}" must be an object`)
  for (const [path, accepted] of Object.entries(value)) {
    const values = [accepted].flat()
    check(values.length > 0 && values.every(isClaimValue), `"${key}" must give ${path} a value or values`)
  }
  return value as Record<string, ClaimValue | ClaimValue[]>
}

/** A `max_age`, in whole seconds. */
export function parseMaxAge (value: unknown): number | undefined {
  check(
    value === undefined || (Number.isInteger(value) && (value as number) >= 0),
    '"maxAge" must be a number of seconds'
  )
  return value as number | undefined
}
