import { acceptsTokens } from './constraints.ts'
import { ruleOfRoute } from './route-rules.ts'
import type { FastifySchema, RouteOptions } from 'fastify'
import type { Constraints } from './constraints.ts'
import type { GuardedRoutes } from './guarded-routes.ts'

// Describes the guards in the document of @fastify/swagger.

/** Marks a guarded route until the document is made: @fastify/swagger copies such members of a schema. */
const MARK = 'x-oidc-guard'

interface Operation {
  [MARK]?: Security
  security?: unknown
  responses?: Record<string, unknown>
}
interface Document {
  components?: { securitySchemes?: Record<string, unknown> }
  paths?: Record<string, Record<string, Operation>>
}
type Security = Array<Record<string, string[]>>

export interface OpenApiParts {
  cookieName: string
  /** Whether access tokens are accepted. */
  hasBearer: boolean
  /** The discovery URL of the only provider. */
  discoveryUrl: string | undefined
}

/** Marks the guarded routes of a scope that has @fastify/swagger, and completes the document when it is made. */
export function documentRoutes (
  app: object,
  guardedRoutes: GuardedRoutes,
  { cookieName, hasBearer, discoveryUrl }: OpenApiParts
): void {
  const prefix = cookieName.replace('__Host-', '')
  const sessionScheme = `${prefix}Session`
  const tokenScheme = `${prefix}Token`

  // Each of the alternatives is sufficient, and passes all the guards.
  function securityOf (constraints: Constraints[]): Security {
    const scopes = [...new Set(constraints.flatMap((guard) => [...guard.scopes]))]
    const alternatives = [
      ...(constraints.every(({ accept }) => accept.has('session')) ? [{ [sessionScheme]: scopes }] : []),
      ...(hasBearer && constraints.every(acceptsTokens) ? [{ [tokenScheme]: scopes }] : [])
    ]
    // Where guards contradict each other, nothing passes. An empty list would say that everything does.
    return alternatives.length > 0 ? alternatives : securityOf(constraints.slice(1))
  }

  // An empty list says that the route is public, whatever the document says for all routes.
  function mark (route: RouteOptions): void {
    const constraints = guardedRoutes.constraintsOf(route)
    if (constraints.length === 0 && ruleOfRoute(route) === undefined) return
    const security = constraints.length === 0 ? [] : securityOf(constraints)
    route.schema = { ...route.schema, [MARK]: security } as FastifySchema
  }

  const securitySchemes = {
    [sessionScheme]: { type: 'apiKey', in: 'cookie', name: cookieName },
    ...(hasBearer && {
      [tokenScheme]: discoveryUrl
        ? { type: 'openIdConnect', openIdConnectUrl: discoveryUrl }
        : { type: 'http', scheme: 'bearer' }
    })
  }

  for (const route of guardedRoutes.all()) mark(route)
  const owner = swaggerOwnerOf(app)
  const { swagger } = owner
  owner.swagger = (options) => complete(swagger(options), securitySchemes)
}

interface WithSwagger {
  swagger: (options?: unknown) => unknown
}

/** The instance on which @fastify/swagger is registered: this one, or one that it inherits from. */
function swaggerOwnerOf (instance: object): WithSwagger {
  if (Object.hasOwn(instance, 'swagger')) return instance as WithSwagger
  return swaggerOwnerOf(Object.getPrototypeOf(instance) as object)
}

/** A document in YAML is already a text, and stays as it is, with the marks. */
function complete (document: unknown, securitySchemes: Record<string, unknown>): unknown {
  if (typeof document !== 'object' || document === null) return document
  const { components, paths = {} } = document as Document
  for (const operation of Object.values(paths).flatMap((path) => Object.values(path))) completeOperation(operation)
  const schemes = { ...securitySchemes, ...components?.securitySchemes }
  return Object.assign(document, { components: { ...components, securitySchemes: schemes } })
}

// The route's own schema has priority.
function completeOperation (operation: Operation): void {
  const { [MARK]: security, responses } = operation
  if (security === undefined) return
  operation.security ??= security
  if (security.length > 0) operation.responses = { ...REFUSALS, ...responses }
  delete operation[MARK]
}

const ERROR = {
  'application/json': {
    schema: {
      type: 'object',
      properties: {
        statusCode: { type: 'integer' },
        code: { type: 'string' },
        error: { type: 'string' },
        message: { type: 'string' }
      }
    }
  }
}
const REFUSALS = {
  401: { description: 'The request has no valid session or access token.', content: ERROR },
  403: { description: 'The user or client has no access.', content: ERROR }
}
