import { isRecord } from '../util/json.ts'
import { roleClaimPath, valueAt } from './claims.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { ClaimPath } from './claims.ts'
import type { OidcClaims } from '../../types/claims.ts'
import type { ClaimSource } from '../../types/options.ts'

/** The claims that each source has given. One that was not asked, or did not answer, is absent. */
export type Answers = { [Source in ClaimSource]?: object | undefined }

/** Claims, and where they come from. A session and a grant keep them. */
export interface SourcedClaims {
  claims: OidcClaims
  /** Absent: all are from the ID token, or an earlier version has not written it. */
  sources?: ClaimOrigins | undefined
}

/** Which claims come from other sources than the ID token: a name, or the names that lead to a nested claim. */
export interface ClaimOrigins {
  userinfo?: Array<string | string[]>
  access_token?: Array<string | string[]>
  /** Claims that contain roles, and that the provider has left out because there are too many (Entra ID). */
  left_out?: string[]
}

/** How the claims of one provider are put together. */
export interface SourceRules {
  provider: Pick<ProviderSettings, 'userinfo' | 'rolesFrom' | 'clientId'>
  /** As in the option `roleClaims`. */
  roleClaims: readonly string[]
  /** Whether a claim is kept that is not one of the roles. */
  isKept: (name: string) => boolean
}

interface Entry {
  path: ClaimPath
  value: unknown
}

/** The claims of one source, as far as they count. */
interface Contribution {
  others: Entry[]
  roles: Entry[]
}

/** Claims by their names. */
type Claims = Map<string, unknown>

const OTHER_SOURCES = ['userinfo', 'access_token'] as const
type OtherSource = typeof OTHER_SOURCES[number]
/** When several have the same claim, the last one counts. */
const BY_PRECEDENCE: readonly ClaimSource[] = ['access_token', 'userinfo', 'id_token']

/**
 * The claims of each scope (OpenID Connect Core 1.0, section 5.4). They describe a user and grant nothing. A refreshed
 * ID token may leave them out (section 12.2): then those of the login stay. All claims of a scope go together, because
 * `email_verified` must not stay beside another `email`.
 */
const CLAIMS_OF_SCOPES = [
  [
    'name', 'family_name', 'given_name', 'middle_name', 'nickname', 'preferred_username', 'profile', 'picture',
    'website', 'gender', 'birthdate', 'zoneinfo', 'locale', 'updated_at'
  ],
  ['email', 'email_verified'],
  ['address'],
  ['phone_number', 'phone_number_verified']
]

/**
 * Replaces the claims of each source that has answered by what it says now, and keeps those of the others. So a role
 * that was taken away goes, and a name that only UserInfo has stays.
 */
export function mergeClaims (before: SourcedClaims, answers: Answers, rules: SourceRules): SourcedClaims {
  const { claims: { iss, sub } } = before
  const contributions = new Map(BY_PRECEDENCE.flatMap((source) => {
    const answer = answers[source]
    return answer === undefined ? [] : [[source, contributionOf(source, answer, rules)] as const]
  }))
  const claims = stayingClaims(before, answers, rules)
  for (const { others } of contributions.values()) put(claims, others)
  // The first source of roles is written last.
  for (const source of [...rules.provider.rolesFrom ?? []].reverse()) {
    put(claims, contributions.get(source)?.roles ?? [])
  }
  const sources = originsOf(before, contributions, leftOutOf(before, answers, rules))
  return { claims: { ...Object.fromEntries(claims), iss, sub }, ...(Object.keys(sources).length > 0 && { sources }) }
}

/** The claims without those that contain roles. */
export function withoutRoles (
  claims: OidcClaims,
  { provider: { clientId }, roleClaims }: Pick<SourceRules, 'provider' | 'roleClaims'>
): OidcClaims {
  const rest = new Map(Object.entries(claims))
  remove(rest, roleClaims.map((name) => roleClaimPath(claims, name, clientId)))
  return Object.fromEntries(rest) as OidcClaims
}

function contributionOf (source: ClaimSource, answer: object, rules: SourceRules): Contribution {
  const { provider: { userinfo, rolesFrom, clientId }, roleClaims, isKept } = rules
  const isWhole = source === 'id_token' || (source === 'userinfo' && userinfo)
  const isOther = (name: string): boolean => isKept(name) && name !== 'iss' && name !== 'sub'
  const rest = rolesFrom === undefined ? answer : withoutRoles(answer as OidcClaims, rules)
  const others = Object.entries(isWhole ? rest : {}).filter(([name]) => isOther(name))
  const paths = (rolesFrom?.includes(source) === true ? roleClaims : [])
    .map((name) => roleClaimPath(answer, name, clientId))
  return {
    others: others.map(([name, value]) => ({ path: [name], value })),
    roles: paths.map((path) => ({ path, value: valueAt(answer, path) })).filter(({ value }) => value !== undefined)
  }
}

/** What no source has replaced. */
function stayingClaims (before: SourcedClaims, answers: Answers, { provider }: SourceRules): Claims {
  const { claims } = before
  const pathsOf = (source: OtherSource): ClaimPath[] => pathsFrom(before, source, provider)
  const rest: Claims = new Map(Object.entries(claims))
  remove(rest, OTHER_SOURCES.filter((source) => answers[source] !== undefined).flatMap(pathsOf))
  const { id_token: idToken } = answers
  if (idToken === undefined) return rest
  const described = CLAIMS_OF_SCOPES.filter((names) => !names.some((name) => Object.hasOwn(idToken, name))).flat()
  const others = OTHER_SOURCES.filter((source) => answers[source] === undefined).flatMap(pathsOf)
  const entries = [...described.map((name) => [name]), ...others].map((path) => ({ path, value: at(rest, path) }))
  const staying: Claims = new Map()
  put(staying, entries.filter(({ value }) => value !== undefined))
  return staying
}

/** An earlier version did not write where claims come from: with UserInfo, all may come from there. */
function pathsFrom (
  { claims, sources }: SourcedClaims,
  source: OtherSource,
  { userinfo }: SourceRules['provider']
): ClaimPath[] {
  const unknown = source === 'userinfo' && userinfo ? Object.keys(claims) : []
  return (sources === undefined ? unknown : sources[source] ?? []).map((path) => [path].flat())
}

function originsOf (
  { sources = {} }: SourcedClaims,
  contributions: ReadonlyMap<ClaimSource, Contribution>,
  leftOut: string[]
): ClaimOrigins {
  const origins: ClaimOrigins = {}
  for (const source of OTHER_SOURCES) {
    const given = contributions.get(source)
    const paths = given === undefined
      ? sources[source] ?? []
      : [...given.others, ...given.roles].map(({ path }) => path.length === 1 ? path[0] as string : [...path])
    if (paths.length > 0) origins[source] = paths
  }
  if (leftOut.length > 0) origins.left_out = leftOut
  return origins
}

/** OpenID Connect Core 1.0, section 5.6.2: the claims are at another place, which the plugin does not ask. */
function leftOutOf ({ sources }: SourcedClaims, answers: Answers, rules: SourceRules): string[] {
  const known = answers.id_token === undefined ? sources?.left_out ?? [] : []
  const found = Object.values(answers).flatMap((answer: object = {}) => leftOutRoles(answer, rules.roleClaims))
  return [...new Set([...known, ...found])]
}

/** The claims that contain roles, and that are not in these claims but at another place. */
export function leftOutRoles (claims: object, roleClaims: readonly string[]): string[] {
  const names = valueAt(claims, ['_claim_names'])
  return isRecord(names) ? roleClaims.filter((name) => Object.hasOwn(names, name)) : []
}

function at (claims: Claims, [name, ...rest]: ClaimPath): unknown {
  return valueAt({ claim: claims.get(name as string) }, ['claim', ...rest])
}

// Requests share the claims of a session: nested objects are copied, not changed.

function put (claims: Claims, entries: readonly Entry[]): void {
  for (const { path: [name, ...rest], value } of entries) {
    claims.set(name as string, withValue(claims.get(name as string), rest, value))
  }
}

function withValue (before: unknown, [name, ...rest]: ClaimPath, value: unknown): unknown {
  if (name === undefined) return value
  const object = isRecord(before) ? before : {}
  return { ...object, [name]: withValue(valueAt(object, [name]), rest, value) }
}

function remove (claims: Claims, paths: readonly ClaimPath[]): void {
  for (const [name, ...rest] of paths) {
    const less = withoutPath(claims.get(name as string), rest)
    if (less === undefined) claims.delete(name as string)
    else claims.set(name as string, less)
  }
}

/** A copy without the nested value. `undefined` when nothing is left. */
function withoutPath (value: unknown, [name, ...rest]: ClaimPath): unknown {
  if (name === undefined) return undefined
  if (typeof value !== 'object' || value === null) return value
  const others = Object.entries(value).filter(([other]) => other !== name)
  const less = withoutPath(valueAt(value, [name]), rest)
  const left = less === undefined ? others : [...others, [name, less] as const]
  return left.length === 0 ? undefined : Object.fromEntries(left)
}
