import { OidcError } from '../errors.ts'
import { check, func, oneOf } from '../options/check.ts'
import { parseMaxAge } from '../options/constraints.ts'
import { parseClaimConstraints } from '../options/constraints.ts'
import { now } from '../util/time.ts'
import type { FastifyRequest } from 'fastify'
import type { Settings } from '../options/settings.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { OidcClaims, OidcSession } from '../../types/claims.ts'
import type { GuardOptions } from '../../types/options.ts'
import { claimAt, rolesOf } from '../provider/claims.ts'

/** What a guard asks, ready to be compared. */
export interface Constraints {
  scopes: readonly string[]
  claims: ReadonlyArray<readonly [path: string, accepted: readonly unknown[]]>
  roles: readonly string[]
  /** The claims, by path, that have roles. */
  roleClaims: readonly string[]
  acr: readonly string[]
  maxAge: number | undefined
  /** The names of the providers that will do for a request; `undefined`: all of them. */
  providers: ((request: FastifyRequest) => readonly string[]) | undefined
  /** What a request may come with. */
  accept: ReadonlySet<Credential>
  predicate: GuardOptions['check']
}

export type Credential = 'session' | 'bearer' | 'client'

const GUARD_OPTIONS = ['scopes', 'claims', 'roles', 'acr', 'maxAge', 'provider', 'accept', 'check']

/** Throws FST_OIDC_OPTION: a misspelled constraint must not leave a route open. */
export function parseConstraints (
  options: GuardOptions,
  settings: Pick<Settings, 'requiredClaims' | 'providers' | 'resolveProvider' | 'roleClaims' | 'bearer'>
): Constraints {
  for (const key of Object.keys(options)) {
    check(GUARD_OPTIONS.includes(key), `"${key}" is not an option of a guard`)
  }
  const claims = options.claims === undefined ? {} : parseClaimConstraints(options.claims, 'claims')
  return {
    scopes: words(options.scopes, 'scopes', ' '),
    claims: [...Object.entries(settings.requiredClaims), ...Object.entries(claims)].map(([path, accepted]) => [
      path,
      [accepted].flat()
    ]),
    roles: words(options.roles, 'roles', null),
    acr: words(options.acr, 'acr', null),
    maxAge: parseMaxAge(options.maxAge),
    providers: parseProviderNames(options.provider, settings),
    roleClaims: settings.roleClaims,
    accept: parseAccept(options.accept, settings),
    predicate: func(options.check, 'check')
  }
}

function parseAccept (value: GuardOptions['accept'], { bearer }: Pick<Settings, 'bearer'>): Constraints['accept'] {
  const names = words(value ?? ['session', 'bearer'], 'accept', null).map((name) =>
    oneOf<Credential>(name, ['session', 'bearer', 'client'], 'accept')
  )
  check(
    value === undefined || bearer !== undefined || !names.some((name) => name !== 'session'),
    '"accept" needs "bearer": no access token is taken'
  )
  return new Set(names)
}

function parseProviderNames (
  value: GuardOptions['provider'],
  { providers, resolveProvider }: Pick<Settings, 'providers' | 'resolveProvider'>
): Constraints['providers'] {
  if (value === undefined) return undefined
  // A function that names none must not leave the route open for all.
  if (typeof value === 'function') return (request) => [value(request) ?? '']
  const names = words(value, 'provider', null)
  const unknown = resolveProvider === undefined ? names.find((name) => !providers.has(name)) : undefined
  check(unknown === undefined, `"provider" ${String(unknown)} is none of "providers"`)
  return () => names
}

function words (value: string | string[] | undefined, key: string, separator: string | null): string[] {
  if (value === undefined) return []
  const list = typeof value === 'string' && separator !== null ? value.split(separator).filter(Boolean) : [value].flat()
  check(
    list.length > 0 && list.every((entry) => typeof entry === 'string' && entry !== ''),
    `"${key}" must be a string or strings, not empty`
  )
  return list
}

/** Whether the person may pass; `undefined` when so, else why not. */
export function findViolation (
  constraints: Constraints,
  session: Pick<OidcSession, 'scopes' | 'acr' | 'authTime'>,
  claims: OidcClaims,
  { clientId, clockTolerance }: Pick<ProviderSettings, 'clientId' | 'clockTolerance'>
): OidcError | undefined {
  if (!isRecent(constraints.maxAge, session, clockTolerance)) return new OidcError('FST_OIDC_AUTHENTICATION_TOO_OLD')
  const missing = constraints.scopes.filter((scope) => !session.scopes.includes(scope))
  if (missing.length > 0) return forbidden(`scope ${missing.join(' ')} was not granted`)
  const claim = constraints.claims.find(([path, accepted]) => !hasClaim(claims, path, accepted))
  if (claim !== undefined) return forbidden(`claim ${claim[0]} does not have a value that is asked for`)
  if (
    constraints.roles.length > 0 &&
    !rolesOf(claims, constraints.roleClaims, clientId).some((role) => constraints.roles.includes(role))
  ) { return forbidden('the role is missing') }
  if (constraints.acr.length > 0 && !constraints.acr.includes(session.acr ?? '')) {
    return new OidcError('FST_OIDC_AUTHENTICATION_TOO_OLD', { detail: 'another acr is asked for' })
  }
  return undefined
}

// As tolerant as the check of the ID token: what passed there must not be sent to log in again at once.
function isRecent (
  maxAge: number | undefined,
  { authTime }: Pick<OidcSession, 'authTime'>,
  clockTolerance: number
): boolean {
  return maxAge === undefined || (authTime !== undefined && authTime + maxAge + clockTolerance >= now())
}

function hasClaim (claims: OidcClaims, path: string, accepted: readonly unknown[]): boolean {
  return [claimAt(claims, path)].flat().some((value) => accepted.includes(value))
}

function forbidden (detail: string): OidcError {
  return new OidcError('FST_OIDC_FORBIDDEN', { detail })
}
