import { check } from '../options/check.ts'
import { bothConstraints } from './constraints.ts'
import { countExemption, guardsLeftOut, naming, readRule, ruleOfRoute } from './route-rules.ts'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import type { Constraints } from './constraints.ts'
import type { Rule, RuleParts } from './route-rules.ts'
import type { GuardHandler } from '../../types/fastify.ts'

// Which guards run before which route. A hook of a scope can be added after its routes: it is known when all is ready.

export interface KnownGuard {
  constraints: Constraints
  /** `false`: it lets anonymous requests through. */
  isRequired: boolean
  /** Throws FST_OIDC_OPTION when nothing can meet both the guard and the route. */
  add: (rule: Rule) => void
}

const guards = new WeakMap<object, KnownGuard>()

/** Remembers a guard, for the routes that have it as a hook. */
export function rememberGuard (handler: GuardHandler, guard: KnownGuard): GuardHandler {
  guards.set(handler, guard)
  return handler
}

export interface GuardedRoutes {
  /** All routes so far. */
  all: () => readonly RouteOptions[]
  /** What the guards of a route demand together. */
  constraintsOf: (route: RouteOptions) => Constraints[]
}

/** Reads what each route says in its config, and checks at the start that its guards hear it. */
export function watchRoutes (app: FastifyInstance, parts: RuleParts): GuardedRoutes {
  const scopes = new Map<RouteOptions, FastifyInstance>()
  const rules = new Map<RouteOptions, Rule | undefined>()

  app.addHook('onRoute', function (route) {
    scopes.set(route, this)
    rules.set(route, readRule(route, parts))
  })

  app.addHook('preHandler', guardNotFound)

  app.addHook('onReady', async () => {
    for (const route of scopes.keys()) naming(route, () => apply(route))
  })

  function guardsAround (route: RouteOptions): GuardHandler[] {
    return guardsAmong(hooksOf(scopes.get(route) as FastifyInstance))
  }

  function apply (route: RouteOptions): void {
    const rule = ruleOfRoute(route)
    const isAsRead = rule === rules.get(route) && rule?.source === route.config?.oidc
    check(isAsRead, 'an onRoute hook has set or removed it too late: add that hook before the plugin')
    if (rule === undefined) return
    const around = guardsAround(route)
    if (rule.added === null) {
      for (const handler of around) countExemption(rule, handler)
      return
    }
    const covering = [...around, ...guardsAmong(route)]
    check(covering.length > 0, 'it has conditions, and no guard checks them: add one as a hook, for example ' +
      'app.addHook(\'onRequest\', app.oidc.required()) in the scope of the route')
    for (const handler of covering) knownOf(handler).add(rule)
  }

  return {
    all: () => [...scopes.keys()],
    constraintsOf (route) {
      const rule = ruleOfRoute(route)
      return [
        ...guardsAround(route).flatMap((handler) => constraintsAt(knownOf(handler), rule, true)),
        ...guardsAmong(route).flatMap((handler) => constraintsAt(knownOf(handler), rule, false))
      ]
    }
  }
}

function constraintsAt (guard: KnownGuard, rule: Rule | undefined, isOfScope: boolean): Constraints[] {
  const { constraints, isRequired } = guard
  const own = isRequired ? [constraints] : []
  if (rule === undefined) return own
  if (rule.added !== null) return [bothConstraints(constraints, rule.added.constraints)]
  return isOfScope ? [] : own
}

/**
 * A public route may call the handler for unknown routes (`reply.callNotFound()`). Fastify then runs only the
 * preHandler hooks of that handler. Its guards that are earlier hooks have left out the public route: they decide here.
 */
function guardNotFound (request: FastifyRequest, reply: FastifyReply, done: Done): void {
  if (!request.is404 || isDefaultHandler(request)) return done()
  const skipped = guardsLeftOut(request)
  if (skipped.length === 0) return done()
  const missed = guardsAmong({ ...hooksOf(request.server), preHandler: [] })
  runAll(missed.filter((guard) => skipped.includes(guard)), request, reply, done)
}

type Done = (error?: Error) => void

function runAll ([guard, ...others]: GuardHandler[], request: FastifyRequest, reply: FastifyReply, done: Done): void {
  if (guard === undefined) return done()
  guard(request, reply, (error) => {
    if (error === undefined) runAll(others, request, reply, done)
    else done(error)
  })
}

/** Whether the handler is Fastify's own, which only answers 404. Nothing but the name of its function shows it. */
function isDefaultHandler ({ routeOptions: { handler } }: FastifyRequest): boolean {
  return (handler as { name?: string } | undefined)?.name === 'basic404'
}

type Hooks = Pick<RouteOptions, 'onRequest' | 'preValidation' | 'preHandler'>

/** The hooks of a scope, with those of the scopes around it. Fastify has no public name for them. */
function hooksOf (scope: FastifyInstance): Hooks {
  const symbol = Object.getOwnPropertySymbols(scope).find(({ description }) => description === 'fastify.hooks')
  return { ...(scope as unknown as Record<symbol, Hooks>)[symbol as symbol] }
}

function guardsAmong ({ onRequest, preValidation, preHandler }: Hooks): GuardHandler[] {
  const hooks = [onRequest, preValidation, preHandler].flat() as GuardHandler[]
  return hooks.filter((hook) => guards.has(hook))
}

function knownOf (handler: GuardHandler): KnownGuard {
  return guards.get(handler) as KnownGuard
}
