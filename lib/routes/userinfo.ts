import { challenge } from '../guard/guards.ts'
import { parseConstraints } from '../guard/constraints.ts'
import { claimAt } from '../provider/claims.ts'
import { OidcError } from '../errors.ts'
import { sendError, toOidcError } from '../http/error-response.ts'
import type { FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import type { Bearer } from '../guard/bearer.ts'
import type { Constraints } from '../guard/constraints.ts'
import type { Core } from '../compose.ts'
import type { Oidc } from '../../types/fastify.ts'
import type { OidcClaims } from '../../types/claims.ts'
import type { Endpoint } from './index.ts'

/**
 * `GET userinfo`: the claims of the person that the provider has now; with an access token, those that matter
 * of the token.
 */
export function userinfoEndpoint (core: Core, oidc: Oidc): Endpoint {
  const bySession: RouteHandlerMethod = async (request) => await oidc.userinfo(request)
  return { GET: core.bearer === undefined ? bySession : byEither(core, core.bearer, bySession) }
}

function byEither (core: Core, bearer: Bearer, bySession: RouteHandlerMethod): RouteHandlerMethod {
  const constraints = parseConstraints({ accept: ['bearer'] }, core.settings)
  return async function (request, reply) {
    if (!bearer.isPresented(request)) return await bySession.call(this, request, reply)
    await answerByToken(core, bearer, constraints, request, reply)
    return reply
  }
}

async function answerByToken (
  core: Core,
  bearer: Bearer,
  constraints: Constraints,
  request: FastifyRequest,
  reply: FastifyReply
): Promise<void> {
  try {
    const { claims, token } = await bearer.verify(request, constraints)
    if (token.isClient) throw new OidcError('FST_OIDC_FORBIDDEN', { detail: 'a client, not a person' })
    const person = await core.broker?.personOf(claims)
    reply.send({
      sub: claims.sub,
      ...normalise(person ?? claims, (scope) => person === undefined || token.scopes.includes(scope))
    })
  } catch (error) {
    challenge(core, constraints, toOidcError(error), request, reply)
    await sendError(core, error, request, reply)
  }
}

/** As py-oidc-auth names them, and where it looks. */
const FIELDS = {
  username: ['preferred_username', 'user_name', 'uid', 'username'],
  last_name: ['last_name', 'family_name', 'surname', 'name'],
  first_name: ['first_name', 'given_name'],
  pw_name: ['pw_name'],
  email: ['mail', 'email']
}

/** As far as the scope goes (OpenID Connect Core 1.0, section 5.4). */
function normalise (claims: OidcClaims, has: (scope: string) => boolean): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(FIELDS).map(([field, names]) => {
      const value = has(field === 'email' ? 'email' : 'profile')
        ? names.map((name) => claimAt(claims, name)).find(isText)
        : undefined
      return [field, value ?? null]
    })
  )
}

function isText (value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}
