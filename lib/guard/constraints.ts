import { OidcError } from '../errors.ts'
import { check, oneOf } from '../options/check.ts'
import { parseClaimConstraints, parseMaxAge } from '../options/constraints.ts'
import { leftOutRoles } from '../provider/claim-sources.ts'
import { claimAt, claimPath, describeClaim, roleClaimPath, rolesOf, valueAt } from '../provider/claims.ts'
import { now } from '../util/time.ts'
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { ProviderSettings } from '../options/provider.ts'
import type { Settings } from '../options/settings.ts'
import type { SourcedClaims } from '../provider/claim-sources.ts'
import type { ClaimPath } from '../provider/claims.ts'
import type { OidcClaims, OidcSession } from '../../types/claims.ts'
import type { GuardOptions } from '../../types/options.ts'

/** The options of a guard, checked and ready to be compared. */
export interface Constraints {
  scopes: readonly string[]
  claims: ReadonlyArray<readonly [path: string, accepted: readonly unknown[]]>
  /** Of each list, the user must have one role. */
  roles: ReadonlyArray<readonly string[]>
  /** The paths of the claims that hold roles. */
  roleClaims: readonly string[]
  acr: readonly string[]
  maxAge: number | undefined
  /** The names of the accepted providers. `undefined`: all. */
  providers: ((request: FastifyRequest) => readonly string[]) | undefined
  /** The accepted credentials. */
  accept: ReadonlySet<Credential>
  predicate: GuardOptions['check']
}

export type Credential = 'session' | 'bearer' | 'client'

const CREDENTIALS: readonly Credential[] = ['session', 'bearer', 'client']
const GUARD_OPTIONS = ['scopes', 'claims', 'roles', 'acr', 'maxAge', 'provider', 'accept', 'check']

export type ConstraintSettings = Pick<
  Settings,
  'requiredClaims' | 'providers' | 'resolveProvider' | 'roleClaims' | 'bearer' | 'parseHook'
>

/** Throws FST_OIDC_OPTION: a misspelled constraint must not leave a route open. */
export function parseConstraints (options: GuardOptions, settings: ConstraintSettings): Constraints {
  for (const key of Object.keys(options)) {
    check(GUARD_OPTIONS.includes(key), `"${key}" is not an option of a guard`)
  }
  const claims = options.claims === undefined ? {} : parseClaimConstraints(options.claims, 'claims')
  return {
    scopes: words(options.scopes, 'scopes', ' '),
    claims: [...Object.entries(settings.requiredClaims), ...Object.entries(claims)].map(([path, accepted]) => {
      return [path, [accepted].flat()]
    }),
    roles: options.roles === undefined ? [] : [words(options.roles, 'roles', null)],
    acr: words(options.acr, 'acr', null),
    maxAge: parseMaxAge(options.maxAge),
    providers: parseProviderNames(options.provider, settings),
    roleClaims: settings.roleClaims,
    accept: parseAccept(options.accept, settings),
    predicate: settings.parseHook(options.check, 'check')
  }
}

/** What a route adds to its guards: it accepts what they accept, and they have "requiredClaims" already. */
export function parseAddedConstraints (options: GuardOptions, settings: ConstraintSettings): Constraints {
  const accept = settings.bearer === undefined ? ['session' as const] : [...CREDENTIALS]
  return parseConstraints({ accept, ...options }, { ...settings, requiredClaims: {} })
}

/** The constraints that meet both. Throws FST_OIDC_OPTION when nothing could. */
export function bothConstraints (first: Constraints, second: Constraints): Constraints {
  const accept = new Set([...first.accept].filter((credential) => second.accept.has(credential)))
  check(accept.size > 0, 'its "accept" and that of a guard have nothing in common')
  const ages = [first.maxAge, second.maxAge].filter((age) => age !== undefined)
  return {
    scopes: [...new Set([...first.scopes, ...second.scopes])],
    claims: [...first.claims, ...second.claims],
    roles: [...first.roles, ...second.roles],
    roleClaims: first.roleClaims,
    acr: bothAcr(first.acr, second.acr),
    maxAge: ages.length > 0 ? Math.min(...ages) : undefined,
    providers: bothProviders(first.providers, second.providers),
    accept,
    predicate: bothPredicates(first.predicate, second.predicate)
  }
}

function bothAcr (first: readonly string[], second: readonly string[]): readonly string[] {
  if (first.length === 0 || second.length === 0) return [...first, ...second]
  const common = first.filter((acr) => second.includes(acr))
  check(common.length > 0, 'its "acr" and that of a guard have nothing in common')
  return common
}

function bothProviders (first: Constraints['providers'], second: Constraints['providers']): Constraints['providers'] {
  if (first === undefined || second === undefined) return first ?? second
  return (request) => {
    const names = second(request)
    const common = first(request).filter((name) => names.includes(name))
    // As a function that returns no name: an empty list would offer all providers for a login.
    return common.length > 0 ? common : ['']
  }
}

function bothPredicates (first: Constraints['predicate'], second: Constraints['predicate']): Constraints['predicate'] {
  if (first === undefined || second === undefined) return first ?? second
  return async (claims, request) => await first(claims, request) === true && await second(claims, request)
}

function parseAccept (value: GuardOptions['accept'], { bearer }: ConstraintSettings): Constraints['accept'] {
  const names = words(value ?? ['session', 'bearer'], 'accept', null)
  const credentials = names.map((name) => oneOf<Credential>(name, CREDENTIALS, 'accept'))
  const isPossible = bearer !== undefined || credentials.every((name) => name === 'session')
  check(value === undefined || isPossible, '"accept" needs "bearer": without it, access tokens are not read')
  return new Set(credentials)
}

function parseProviderNames (
  value: GuardOptions['provider'],
  { providers, resolveProvider }: ConstraintSettings
): Constraints['providers'] {
  if (value === undefined) return undefined
  // A function that returns no name must not open the route for all providers.
  if (typeof value === 'function') return (request) => [value(request) ?? '']
  const names = words(value, 'provider', null)
  const unknown = resolveProvider === undefined ? names.find((name) => !providers.has(name)) : undefined
  check(unknown === undefined, `"provider" ${String(unknown)} is none of "providers"`)
  return () => names
}

function words (value: string | string[] | undefined, key: string, separator: string | null): string[] {
  if (value === undefined) return []
  const list = typeof value === 'string' && separator !== null ? value.split(separator).filter(Boolean) : [value].flat()
  const isValid = list.length > 0 && list.every((entry) => typeof entry === 'string' && entry !== '')
  check(isValid, `"${key}" must be a string or strings, not empty`)
  return list
}

/** Whether a guard accepts access tokens. */
export function acceptsTokens ({ accept }: Pick<Constraints, 'accept'>): boolean {
  return accept.has('bearer') || accept.has('client')
}

/** A user or client, as a session or an access token describes it. */
export interface Identity extends SourcedClaims {
  session: Pick<OidcSession, 'scopes' | 'acr' | 'authTime'>
  settings: Pick<ProviderSettings, 'clientId' | 'clockTolerance'>
}

/**
 * The error for the first constraint that a session or token violates. `undefined` when there is none. Values of claims
 * go to the log at level `debug` only.
 */
export function findViolation (
  constraints: Constraints,
  identity: Identity,
  log: FastifyBaseLogger
): OidcError | undefined {
  const { maxAge, scopes, claims: claimConstraints, roles, roleClaims, acr } = constraints
  const { session, claims, settings: { clientId, clockTolerance } } = identity
  if (!isRecent(maxAge, session, clockTolerance)) {
    const detail = `the user authenticated at ${session.authTime ?? 'an unknown time'}, and "maxAge" is ${maxAge}`
    return new OidcError('FST_OIDC_AUTHENTICATION_TOO_OLD', { detail })
  }
  const missing = scopes.filter((scope) => !session.scopes.includes(scope))
  if (missing.length > 0) return forbidden(`the scope ${missing.join(' ')} was not granted`)
  const claim = claimConstraints.find(([path, accepted]) => !hasClaim(claims, path, accepted))
  if (claim !== undefined) {
    const path = claimPath(claims, claim[0])
    logValues(log, claims, [path])
    return forbidden(`the claim ${describeClaim(claims, path)} has no accepted value`)
  }
  const missingRoles = findMissing(roles, () => rolesOf(claims, roleClaims, clientId))
  if (missingRoles !== undefined) {
    const paths = roleClaims.map((name) => roleClaimPath(claims, name, clientId))
    logValues(log, claims, paths)
    return forbidden(`the user has none of the roles ${missingRoles.join(', ')}: ${describeRoles(identity, roleClaims, paths)}`)
  }
  if (acr.length > 0 && !acr.includes(session.acr ?? '')) {
    return new OidcError('FST_OIDC_AUTHENTICATION_TOO_OLD', { detail: 'the acr is none of those that the guard requires' })
  }
  return undefined
}

// With the same tolerance as the check of the ID token: otherwise a new login could be too old at once.
function isRecent (
  maxAge: number | undefined,
  { authTime }: Pick<OidcSession, 'authTime'>,
  clockTolerance: number
): boolean {
  return maxAge === undefined || (authTime !== undefined && authTime + maxAge + clockTolerance >= now())
}

/** The first list of which the user has no role. */
function findMissing (wanted: Constraints['roles'], rolesOfUser: () => string[]): readonly string[] | undefined {
  if (wanted.length === 0) return undefined
  const roles = rolesOfUser()
  return wanted.find((list) => !list.some((role) => roles.includes(role)))
}

function hasClaim (claims: OidcClaims, path: string, accepted: readonly unknown[]): boolean {
  return [claimAt(claims, path)].flat().some((value) => accepted.includes(value))
}

function describeRoles (
  { claims, sources }: Identity,
  roleClaims: readonly string[],
  paths: readonly ClaimPath[]
): string {
  const leftOut = new Set([...leftOutRoles(claims, roleClaims), ...sources?.left_out ?? []])
  // OpenID Connect Core 1.0, section 5.6.2
  const reason = leftOut.size === 0
    ? ''
    : `the provider has left out ${[...leftOut].join(', ')} (_claim_names; Entra ID does so above 200 groups); `
  const looked = paths.map((path) => describeClaim(claims, path)).join(', ')
  return `${reason}looked at ${looked}, as "roleClaims" and "rolesFrom" say`
}

function logValues (log: FastifyBaseLogger, claims: OidcClaims, paths: readonly ClaimPath[]): void {
  const values = Object.fromEntries(paths.map((path) => [path.join('.'), valueAt(claims, path)]))
  log.debug({ claims: values }, 'the claims that a guard does not accept')
}

function forbidden (detail: string): OidcError {
  return new OidcError('FST_OIDC_FORBIDDEN', { detail })
}
