import { OidcError } from '../errors.ts'
import { parseConstraints } from '../guard/constraints.ts'
import { toOidcError } from '../http/error-response.ts'
import { sendJson } from '../http/send-json.ts'
import { claimAt } from '../provider/claims.ts'
import type { FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import type { Parts } from '../compose.ts'
import type { Bearer } from '../guard/bearer.ts'
import type { Endpoint } from './endpoint.ts'
import type { OidcClaims } from '../../types/claims.ts'

type UserinfoParts = Pick<Parts, 'settings' | 'userinfo' | 'bearer' | 'broker' | 'challenge' | 'errorResponses'>

/** `GET userinfo`: with a session, the current claims of the provider; with an access token, those of the token. */
export function userinfoEndpoint (parts: UserinfoParts): Endpoint {
  const { userinfo, bearer } = parts
  const bySession: RouteHandlerMethod = async (request, reply) =>
    sendJson(reply, await userinfo(request))
  return { GET: bearer === undefined ? bySession : byTokenOr(bySession, bearer, parts) }
}

function byTokenOr (bySession: RouteHandlerMethod, bearer: Bearer, parts: UserinfoParts): RouteHandlerMethod {
  const byToken = createByToken(bearer, parts)
  return async function (request, reply) {
    if (!bearer.isPresented(request)) return await bySession.call(this, request, reply)
    await byToken(request, reply)
    return reply
  }
}

function createByToken (bearer: Bearer, { settings, broker, challenge, errorResponses: { sendError } }: UserinfoParts) {
  const constraints = parseConstraints({ accept: ['bearer'] }, settings)

  async function claimsOf (request: FastifyRequest): Promise<Record<string, unknown>> {
    const { claims, token } = await bearer.verify(request, constraints)
    if (token.isClient) throw new OidcError('FST_OIDC_FORBIDDEN', { detail: 'a client, not a user' })
    const user = await broker?.userOf(claims)
    // A token of the broker gives only the claims that its scope allows (OpenID Connect Core 1.0, section 5.4).
    const isAllowed = (scope: string): boolean => user === undefined || token.scopes.includes(scope)
    return { sub: claims.sub, ...normalise(user ?? claims, isAllowed) }
  }

  return async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    try {
      sendJson(reply, await claimsOf(request))
    } catch (error) {
      challenge(constraints, toOidcError(error), request, reply)
      await sendError(error, request, reply)
    }
  }
}

const USERNAME = ['preferred_username', 'user_name', 'uid', 'username']
/** The names of py-oidc-auth, and the claims in which it looks for each. What is missing is an empty text there. */
const FIELDS = {
  username: USERNAME,
  last_name: ['last_name', 'family_name', 'surname', 'name'],
  first_name: ['first_name', 'given_name'],
  pw_name: USERNAME,
  email: ['mail', 'email']
}

function normalise (claims: OidcClaims, isAllowed: (scope: string) => boolean): Record<string, unknown> {
  const valueOf = (field: string, names: string[]): unknown => {
    if (!isAllowed(field === 'email' ? 'email' : 'profile')) return undefined
    return names.map((name) => claimAt(claims, name)).find(isText)
  }
  return Object.fromEntries(Object.entries(FIELDS).map(([field, names]) => [field, valueOf(field, names) ?? '']))
}

function isText (value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}
