import { OidcError } from '../errors.ts'
import type { FastifyInstance, FastifyRequest, RouteHandlerMethod } from 'fastify'

/** A handler for each method of a route. */
export type Endpoint = Partial<Record<'GET' | 'POST', RouteHandlerMethod>>

/** The name of the provider that a request is about. */
export type ProviderNameOf = (request: FastifyRequest) => string

/**
 * Adds the routes of an endpoint. Other methods get 405. Otherwise Fastify would answer HEAD like GET, which uses up a
 * login, and the application's handler for unknown routes would log the codes in the query.
 */
export function serve (scope: FastifyInstance, url: string, endpoint: Endpoint): void {
  for (const [method, handler] of Object.entries(endpoint)) {
    scope.route({ method, url, exposeHeadRoute: false, handler })
  }
  const allow = Object.keys(endpoint).join(', ')
  const others = scope.supportedMethods.filter((method) => !(method in endpoint) && method !== 'OPTIONS')
  const rejectMethod: RouteHandlerMethod = async (_request, reply) => {
    reply.header('allow', allow)
    throw new OidcError('FST_OIDC_METHOD')
  }
  scope.route({ method: others, url, onRequest: rejectMethod as never, handler: rejectMethod })
}
