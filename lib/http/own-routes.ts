import type { FastifyInstance, FastifyRequest } from 'fastify'

// For all registrations in the process, also those of another copy of this package.
const kOwnRoutes = Symbol.for('fastify-oidc.own-routes')

/** Marks the routes of a scope as those of the plugin. They decide themselves who may call them. */
export function markOwnRoutes (scope: FastifyInstance): void {
  scope.decorate(kOwnRoutes, true)
}

/** Whether a request is for a route of the plugin. The route says so, not the path, which others can have too. */
export function isForOwnRoute (request: FastifyRequest): boolean {
  return kOwnRoutes in request.server && request.method !== 'OPTIONS' // which the plugin does not answer
}
