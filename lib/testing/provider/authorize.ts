import { askUser } from './approval.ts'
import { checkTarget, findProblem, requestParams } from './authorization-request.ts'
import { respond } from './authorization-response.ts'
import { now, random, words } from './context.ts'
import { findSession, isStale, newSession, sessionCookie } from './sso-session.ts'
import type { Answer } from './answer.ts'
import type { AuthorizationError, Params } from './authorization-request.ts'
import type { Context, Exchange, Grant, SsoSession } from './context.ts'
import type { ProviderClient } from './options.ts'
import type { Login } from './sso-session.ts'

const logIn = async (exchange: Exchange, params: Params): Promise<Login | { problem: AuthorizationError }> => {
  const found = findSession(exchange)
  if (found && !isStale(found[1], params)) return { id: found[0], session: found[1] }
  if (words(params.prompt).includes('none')) return { problem: { error: 'login_required' } }
  const decision = await askUser(exchange.context, params)
  return 'problem' in decision ? decision : newSession(exchange.context, decision.user, params, found)
}

const makeCode = (context: Context, client: ProviderClient, params: Params, session: SsoSession): string => {
  const code = random()
  const { user, sid, auth_time, acr } = session
  const grant: Grant = { client, user, sid, auth_time, acr, scope: params.scope ?? '' }
  if (params.resource) grant.resource = params.resource
  session.clients.add(client)
  context.codes.set(code, {
    grant,
    redirect_uri: params.redirect_uri!,
    code_challenge: params.code_challenge,
    nonce: params.nonce,
    expires: now() + (context.options.codeTtl ?? 60)
  })
  return code
}

/** The authorization endpoint. It shows no page: the option `approve` decides, and the client gets the result. */
export const authorize = async (exchange: Exchange): Promise<Answer> => {
  const { context } = exchange
  const params = requestParams(exchange)
  const client = checkTarget(context, params)
  const problem = findProblem(params, context)
  if (problem) return respond(exchange, params, problem)
  const login = await logIn(exchange, params)
  if ('problem' in login) return respond(exchange, params, login.problem)
  const code = makeCode(context, client, params, login.session)
  return respond(exchange, params, { code }, sessionCookie(context, login.id))
}
