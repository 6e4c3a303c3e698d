import type { OidcClaims } from '../../types/claims.ts'

export function property (value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined
}

/** The claim of that very name, else the one that the dots lead to: names may be URLs, which have dots themselves. */
export function claimAt (claims: OidcClaims, path: string, names = path.split('.')): unknown {
  return Object.hasOwn(claims, path) ? claims[path] : names.reduce<unknown>(property, claims)
}

/** The roles, from the claims of these paths; `{clientId}` in one is this client: another one's roles are none here. */
export function rolesOf (claims: OidcClaims, paths: readonly string[], clientId: string): string[] {
  const lists = paths.map((path) => claimAt(
    claims,
    path,
    path.split('.').map((name) => (name === '{clientId}' ? clientId : name))
  )
  )
  return lists.flat().filter((role): role is string => typeof role === 'string')
}
