import { OidcError } from '../errors.ts'
import { check } from '../options/check.ts'
import { isPlainRecord } from '../util/json.ts'
import { parseAddedConstraints } from './constraints.ts'
import type { FastifyContextConfig, FastifyRequest, RouteOptions } from 'fastify'
import type { Constraints, ConstraintSettings } from './constraints.ts'
import type { ParseRefresh, Refresh } from './refresh.ts'
import type { GuardHandler } from '../../types/fastify.ts'
import type { GuardOptions } from '../../types/options.ts'

// What a route says to its guards: `config: { oidc: false }` or `config: { oidc: { roles: 'admin' } }`.

export interface Rule {
  /** `config.oidc`, as it was read. */
  source: unknown
  /** What the route adds to each of its guards. `null`: the hooks of its scope let everything through. */
  added: Added | null
  /** Of the guards that are hooks of its scope: how often, and how often a request has called them. */
  exempt: Map<GuardHandler, { hooks: number, calls: WeakMap<FastifyRequest, number> }>
}

/** Conditions beside those of a guard. */
export interface Added {
  constraints: Constraints
  refresh: Refresh | undefined
}

const kRule = Symbol('fastify-oidc rule of a route')

interface Config extends FastifyContextConfig {
  [kRule]?: Rule
}

export interface RuleParts {
  settings: ConstraintSettings
  parseRefresh: ParseRefresh
}

/**
 * Reads the config of a route once, when it is registered. Returns `undefined` when it says nothing. Throws
 * FST_OIDC_OPTION with the name of the route.
 */
export function readRule (route: RouteOptions, parts: RuleParts): Rule | undefined {
  const { config } = route
  if (config === undefined || !('oidc' in config)) return undefined
  const added = naming(route, () => parseAdded(config.oidc, parts))
  const rule: Rule = { source: config.oidc, added, exempt: new Map() }
  // Not in the object of the application, which several routes may share.
  route.config = Object.assign({ ...config }, { [kRule]: rule })
  return rule
}

function parseAdded (value: unknown, { settings, parseRefresh }: RuleParts): Added | null {
  if (value === false) return null
  check(isPlainRecord(value), 'it must be false, or an object with conditions of a guard')
  const { refresh, ...options } = value as GuardOptions
  return { constraints: parseAddedConstraints(options, settings), refresh: parseRefresh(refresh) }
}

/** Adds the name of the route to an error about its config. */
export function naming<T> ({ method, url }: RouteOptions, work: () => T): T {
  try {
    return work()
  } catch (error) {
    const message = `"config.oidc" of ${[method].flat().join(', ')} ${url}: ${(error as Error).message}`
    throw new OidcError('FST_OIDC_OPTION', { message, cause: error })
  }
}

export function ruleOfRoute ({ config }: RouteOptions): Rule | undefined {
  return (config as Config | undefined)?.[kRule]
}

/** What the route of a request says to its guards. */
export function ruleOf (request: FastifyRequest): Rule | undefined {
  return configOf(request)?.[kRule]
}

/** The error FST_OIDC_OUTSIDE for a route with conditions that nothing has read: its guards would leave them out. */
export function unreadError (request: FastifyRequest): OidcError | undefined {
  const config = configOf(request)
  if (config?.oidc === undefined || config[kRule] !== undefined) return undefined
  const detail = '"config.oidc" of the route was not read: register the plugin before the route, and await it'
  return new OidcError('FST_OIDC_OUTSIDE', { detail })
}

/** Counts a guard that is a hook of the scope of a public route. */
export function countExemption ({ exempt }: Rule, guard: GuardHandler): void {
  exempt.set(guard, { hooks: (exempt.get(guard)?.hooks ?? 0) + 1, calls: new WeakMap() })
}

/**
 * Whether a guard leaves out a request of a public route: as often as it is a hook of the scope. A guard that something
 * else calls as well, for example @fastify/auth for the route itself, decides.
 */
export function isExempt ({ exempt }: Rule, guard: GuardHandler, request: FastifyRequest): boolean {
  const counted = exempt.get(guard)
  if (counted === undefined) return false
  const calls = (counted.calls.get(request) ?? 0) + 1
  counted.calls.set(request, calls)
  const isLeftOut = calls <= counted.hooks
  if (isLeftOut) leftOut.set(request, [...leftOut.get(request) ?? [], guard])
  return isLeftOut
}

const leftOut = new WeakMap<FastifyRequest, GuardHandler[]>()

/** The guards that have left out a request, because its route is public. */
export function guardsLeftOut (request: FastifyRequest): readonly GuardHandler[] {
  return leftOut.get(request) ?? []
}

let kContext: symbol | undefined

/** `request.routeOptions.config`, without the object that Fastify makes each time. */
export function configOf (request: FastifyRequest): Config | undefined {
  kContext ??= Object.getOwnPropertySymbols(request).find(({ description }) => description === 'fastify.context')
  const context = (request as unknown as Record<symbol, { config?: Config } | undefined>)[kContext as symbol]
  return (context ?? request.routeOptions).config
}
