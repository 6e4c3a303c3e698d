import { OidcError } from '../errors.ts'
import { forbidCaching } from '../http/headers.ts'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'

/** A handler for each method of a route. */
export type Endpoint = Partial<Record<'GET' | 'POST', RouteHandlerMethod>>

/** The name of the provider that a request is about. */
export type ProviderNameOf = (request: FastifyRequest) => string

/**
 * Adds the routes of an endpoint. Other methods get 405, and OPTIONS 404. Otherwise Fastify would answer HEAD like GET,
 * which uses up a login, and the application's handler for unknown routes would log the codes in the query.
 */
export function serve (scope: FastifyInstance, url: string, endpoint: Endpoint): void {
  addRoutes(scope, url, endpoint, forbidCachingAtLast)
}

/** Adds the routes of a document that caches may keep. */
export function servePublic (scope: FastifyInstance, url: string, endpoint: Endpoint): void {
  addRoutes(scope, url, endpoint, keepHeaders)
}

type AtLast = (request: FastifyRequest, reply: FastifyReply, payload: unknown, done: () => void) => void

// After the hooks of the application, which may set headers for all its responses.
const forbidCachingAtLast: AtLast = (_request, reply, _payload, done) => {
  forbidCaching(reply)
  done()
}

const keepHeaders: AtLast = (_request, _reply, _payload, done) => done()

function addRoutes (scope: FastifyInstance, url: string, endpoint: Endpoint, onSend: AtLast): void {
  // The routes are no part of the application's API: @fastify/swagger leaves them out.
  const common = { url, exposeHeadRoute: false, schema: { hide: true }, onSend }
  for (const [method, handler] of Object.entries(endpoint)) scope.route({ ...common, method, handler })
  const allow = Object.keys(endpoint).join(', ')
  const others = scope.supportedMethods.filter((method) => !(method in endpoint) && method !== 'OPTIONS')
  const rejectMethod: RouteHandlerMethod = async (_request, reply) => {
    reply.header('allow', allow)
    throw new OidcError('FST_OIDC_METHOD')
  }
  scope.route({ ...common, method: others, onRequest: rejectMethod as never, handler: rejectMethod })
  scope.route({ ...common, method: 'OPTIONS', handler: answerAsUnknown })
}

/**
 * For a preflight that no plugin for CORS has answered. Without a route, the request would be logged as one of the
 * application, with the codes in its query. Fastify's handler for unknown routes writes the address into the log, too.
 */
function answerAsUnknown ({ raw }: FastifyRequest, reply: FastifyReply): void {
  raw.url = withoutQuery(raw.url as string)
  reply.callNotFound()
}

/** The path of an address. Fastify may also take a semicolon for the begin of the query. */
export function withoutQuery (url: string): string {
  return url.split(/[?;]/, 1)[0] as string
}
