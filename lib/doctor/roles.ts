import { rolesOf } from '../provider/claims.ts'
import { isRecord } from '../util/json.ts'
import { finding } from './report.ts'
import type { Finding, FoundRoles } from './report.ts'
import type { ClaimSource } from '../../types/options.ts'
import type { OidcClaims } from '../../types/claims.ts'

/** The claims of each source. The access token only where the plugin accepts it for roles. */
export type Sources = Array<[source: ClaimSource, claims: Record<string, unknown>]>

/** Names of claims that usually hold roles: also at the end of a URL, as in `cognito:groups`. */
const ROLE_NAME = /(?:^|[/:._-])(?:roles?|groups?|entitlements?)$/i
const MAX_LEVELS = 3
const MAX_ROLES = 50

/** The roles in the claims, in the order in which sources count by default. */
export function findRoles (sources: Sources, clientId: string): FoundRoles[] {
  return sources.flatMap(([source, claims]) => rolePaths(claims, clientId, MAX_LEVELS).flatMap((path) => {
    const roles = rolesOf(claims as OidcClaims, [path], clientId).slice(0, MAX_ROLES)
    return roles.length === 0 ? [] : [{ source, path, roles }]
  }))
}

function rolePaths (claims: Record<string, unknown>, clientId: string, levels: number): string[] {
  return Object.entries(claims).flatMap(([name, value]) => {
    if (ROLE_NAME.test(name)) return [name]
    if (!isRecord(value) || levels === 0) return []
    // Keycloak: the roles at other clients are not for this one.
    const members = name === 'resource_access' ? ownRoles(value, clientId) : value
    return rolePaths(members, clientId, levels - 1).map((path) => `${name}.${path}`)
  })
}

function ownRoles (access: Record<string, unknown>, clientId: string): Record<string, unknown> {
  return clientId in access ? { '{clientId}': access[clientId] } : {}
}

/** Where the roles are, and what to set. `known` are the paths of the default of `roleClaims`. */
export function adviseRoles (found: FoundRoles[], known: readonly string[]): Finding {
  if (found.length === 0) {
    return finding(
      'note', 'no_roles',
      'no claim looks like roles',
      'If guards need roles, add them to a token at the provider: as a claim roles or groups, by a scope or a ' +
        'mapper. See "Where the roles are" in docs/providers.md'
    )
  }
  // The same claim in another source adds nothing.
  const used = found.filter(({ path }, index) => found.findIndex((other) => other.path === path) === index)
  const sources = [...new Set(used.map(({ source }) => source))]
  const paths = used.map(({ path }) => path)
  const options = {
    ...(sources.some((source) => source !== 'id_token') && { rolesFrom: sources }),
    ...(paths.some((path) => !known.includes(path)) && { roleClaims: paths })
  }
  const where = used.map(({ source, path }) => `${path} (${source})`).join(', ')
  const names = Object.keys(options).map((name) => `"${name}"`)
  return names.length === 0
    ? finding('note', 'roles', `roles are in ${where}`, 'Nothing to set: guards find them there')
    : finding(
      'warning', 'roles',
      `roles are in ${where}`,
      `Set ${names.join(' and ')} as below, or guards do not find them`,
      options
    )
}
