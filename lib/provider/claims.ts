import { isRecord } from '../util/json.ts'
import type { OidcClaims } from '../../types/claims.ts'

/** The names that lead to a claim, from the outside in. */
export type ClaimPath = readonly string[]

/**
 * The claim with exactly this name, or else the nested claim that the path with dots leads to. The exact name comes
 * first, because a claim's name may be a URL, which contains dots.
 */
export function claimAt (claims: OidcClaims, path: string): unknown {
  return valueAt(claims, claimPath(claims, path))
}

export function claimPath (claims: object, path: string): ClaimPath {
  return resolve(claims, path, path.split('.'))
}

/** The path of a claim that holds roles. `{clientId}` in it stands for this client. */
export function roleClaimPath (claims: object, path: string, clientId: string): ClaimPath {
  return resolve(claims, path, path.split('.').map((name) => (name === '{clientId}' ? clientId : name)))
}

function resolve (claims: object, path: string, names: ClaimPath): ClaimPath {
  return Object.hasOwn(claims, path) ? [path] : names
}

export function valueAt (claims: object, path: ClaimPath): unknown {
  return path.reduce<unknown>(property, claims)
}

function property (value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined
}

/**
 * The roles from the claims at these paths. Roles for another client than `{clientId}` do not count. Zitadel writes an
 * object whose keys are the roles, with the organizations that grant each.
 */
export function rolesOf (claims: OidcClaims, paths: readonly string[], clientId: string): string[] {
  return paths.flatMap((path) => rolesIn(valueAt(claims, roleClaimPath(claims, path, clientId))))
}

function rolesIn (value: unknown): string[] {
  if (isRecord(value)) return Object.keys(value).filter((role) => value[role] !== false && value[role] !== null)
  return [value].flat().filter((role): role is string => typeof role === 'string')
}

/** A claim for the log: its path and type, without its value. */
export function describeClaim (claims: OidcClaims, path: ClaimPath): string {
  return `${path.join('.')} (${typeOf(valueAt(claims, path))})`
}

function typeOf (value: unknown): string {
  if (value === undefined) return 'absent'
  if (value === null) return 'null'
  if (Array.isArray(value)) return `array of ${value.length}`
  return isRecord(value) ? `object with ${Object.keys(value).length} keys` : typeof value
}
