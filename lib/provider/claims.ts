import type { OidcClaims } from '../../types/claims.ts'

/**
 * The claim with exactly this name, or else the nested claim that the path with dots leads to. The exact name comes
 * first, because a claim's name may be a URL, which contains dots.
 */
export function claimAt (claims: OidcClaims, path: string, names = path.split('.')): unknown {
  return Object.hasOwn(claims, path) ? claims[path] : names.reduce<unknown>(property, claims)
}

/**
 * The roles from the claims at these paths. `{clientId}` in a path stands for this client: roles for another client do
 * not count.
 */
export function rolesOf (claims: OidcClaims, paths: readonly string[], clientId: string): string[] {
  const namesIn = (path: string): string[] => path.split('.').map((name) => (name === '{clientId}' ? clientId : name))
  const lists = paths.map((path) => claimAt(claims, path, namesIn(path)))
  return lists.flat().filter((role): role is string => typeof role === 'string')
}

function property (value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined
}
