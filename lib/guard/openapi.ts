import type { FastifyInstance, FastifySchema, RouteOptions } from 'fastify'
import type { Core } from '../compose.ts'
import type { Constraints } from './constraints.ts'

/** Tells @fastify/swagger what the guards ask for. */

/** What a route says of its guard, until the document is made: @fastify/swagger takes such members along. */
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

const guards = new WeakMap<object, Constraints>()

/** Remembers what a guard asks for. */
export function describeGuard<T extends object> (guard: T, constraints: Constraints): T {
  guards.set(guard, constraints)
  return guard
}

/** Marks the guarded routes of a scope as they come, and completes the document when it is made. */
export function documentRoutes (app: FastifyInstance, core: Core): void {
  app.addHook('onRoute', (route) => {
    const constraints = constraintsOf(route)
    if (constraints !== undefined) {
      route.schema = { ...route.schema, [MARK]: securityOf(core, constraints) } as FastifySchema
    }
  })
  app.addHook('onReady', async () => {
    const owner = ownerOf(app)
    if (owner === undefined) return
    const { swagger } = owner
    owner.swagger = (options) => complete(core, swagger(options))
  })
}

interface WithSwagger {
  swagger: (options?: unknown) => unknown
}

/** The instance that @fastify/swagger is registered with. */
function ownerOf (app: FastifyInstance): WithSwagger | undefined {
  for (
    let instance: object | null = app;
    instance !== null;
    instance = Object.getPrototypeOf(instance) as object | null
  ) {
    if (Object.hasOwn(instance, 'swagger')) return instance as WithSwagger
  }
  return undefined
}

function constraintsOf ({ onRequest, preValidation, preHandler }: RouteOptions): Constraints | undefined {
  return [onRequest, preValidation, preHandler]
    .flat()
    .map((hook) => (hook === undefined ? undefined : guards.get(hook)))
    .find((found) => found !== undefined)
}

// Each of the alternatives is enough.
function securityOf (core: Core, { accept, scopes }: Constraints): Security {
  const { session, token } = namesOf(core)
  return [
    ...(accept.has('session') ? [{ [session]: [...scopes] }] : []),
    ...(core.bearer !== undefined && (accept.has('bearer') || accept.has('client')) ? [{ [token]: [...scopes] }] : [])
  ]
}

/** A document as YAML is text by now: there the marks are all that it says. */
function complete (core: Core, document: unknown): unknown {
  if (typeof document !== 'object' || document === null) return document
  const { components, paths = {} } = document as Document
  for (const operation of Object.values(paths).flatMap((path) => Object.values(path))) completeOperation(operation)
  return Object.assign(document, {
    components: { ...components, securitySchemes: { ...schemesOf(core), ...components?.securitySchemes } }
  })
}

// What the route itself says stands.
function completeOperation (operation: Operation): void {
  const { [MARK]: security, responses } = operation
  if (security === undefined) return
  operation.security ??= security
  operation.responses = { ...REFUSALS, ...responses }
  delete operation[MARK]
}

function namesOf ({ settings: { session: { cookieName } } }: Core): { session: string, token: string } {
  const name = cookieName.replace('__Host-', '')
  return { session: `${name}Session`, token: `${name}Token` }
}

function schemesOf (core: Core): Record<string, unknown> {
  const { settings, bearer, providers: { choices: [provider, ...others] } } = core
  const { session, token } = namesOf(core)
  const discoveryUrl = others.length === 0 ? provider?.settings.discoveryUrl : ''
  return {
    [session]: { type: 'apiKey', in: 'cookie', name: settings.session.cookieName },
    ...(bearer !== undefined && {
      [token]: discoveryUrl
        ? { type: 'openIdConnect', openIdConnectUrl: discoveryUrl }
        : { type: 'http', scheme: 'bearer' }
    })
  }
}

const ERROR = {
  'application/json': {
    schema: {
      type: 'object',
      properties: { statusCode: { type: 'integer' }, code: { type: 'string' }, message: { type: 'string' } }
    }
  }
}
const REFUSALS = {
  401: { description: 'There is no session or access token, or it is not good (any longer).', content: ERROR },
  403: { description: 'Whoever asks may not do this.', content: ERROR }
}
