import { escapeHtml, html, redirect, refusal } from './answer.ts'
import { findUser, now, random, words } from './context.ts'
import { change } from './fault.ts'
import type { Answer } from './answer.ts'
import type { Context, Exchange, Grant, SsoSession } from './context.ts'
import type { Approval, ProviderClient, ProviderUser } from './types.ts'

type Params = Record<string, string>

interface AuthorizationError {
  error: string
  error_description?: string
}

const badPage = (text: string) => Object.assign(new Error(text), { answer: html(`<p>${escapeHtml(text)}</p>`, 400) })

/** The parameters of the request, or those that were pushed (RFC 9126 section 4). */
const requestParams = ({ context, request }: Exchange): Params => {
  const given = request.method === 'POST' ? request.body : request.query
  if (!given.request_uri) return given
  const pushed = context.pushed.get(given.request_uri)
  context.pushed.delete(given.request_uri)
  if (!pushed || pushed.expires <= now()) throw badPage('unknown or expired request_uri')
  if (pushed.params.client_id !== given.client_id) throw badPage('the request_uri belongs to another client')
  return { ...pushed.params, pushed: 'true' }
}

// Errors in these two must not be sent to the redirect URI (RFC 6749 section 4.1.2.1)
const checkTarget = ({ clients }: Context, { client_id, redirect_uri }: Params): ProviderClient => {
  const client = clients.find((client) => client.client_id === client_id)
  if (!client) throw badPage('unknown client_id')
  if (!redirect_uri || !URL.canParse(redirect_uri)) throw badPage('redirect_uri must be an absolute URL')
  if (client.redirect_uris?.includes(redirect_uri) === false) throw badPage('redirect_uri is not registered')
  return client
}

type Rule = (params: Params, context: Context) => AuthorizationError | false | undefined

const rules: Rule[] = [
  ({ response_type }) => response_type !== 'code' && { error: 'unsupported_response_type' },
  ({ response_mode = 'query' }) => !['query', 'fragment', 'form_post'].includes(response_mode) &&
    { error: 'invalid_request', error_description: 'unknown response_mode' },
  ({ request }) => request !== undefined && { error: 'request_not_supported' },
  ({ pushed }, { options }) => options.requirePar === true && !pushed &&
    { error: 'invalid_request', error_description: 'pushed authorization request required' },
  ({ code_challenge, code_challenge_method }) => (code_challenge ?? code_challenge_method) !== undefined &&
    (code_challenge_method !== 'S256' || !/^[\w-]{43}$/.test(String(code_challenge))) &&
    { error: 'invalid_request', error_description: 'PKCE must be S256' },
  ({ code_challenge }, { options }) => options.requirePkce === true && !code_challenge &&
    { error: 'invalid_request', error_description: 'PKCE required' }
]

const findProblem = (params: Params, context: Context): AuthorizationError | undefined => {
  for (const rule of rules) {
    const problem = rule(params, context)
    if (problem) return problem
  }
}

/** The name has the port in it, because browsers share the cookies of a host among its ports. */
export const ssoCookie = ({ provider }: Context): string => `op_session_${provider.port}`

/** The single sign-on session of the browser. */
export const findSession = ({ context, request }: Exchange): [string, SsoSession] | undefined => {
  const prefix = `${ssoCookie(context)}=`
  const pairs = String(request.headers.cookie ?? '').split('; ')
  const id = pairs.find((pair) => pair.startsWith(prefix))?.slice(prefix.length)
  const session = context.sessions.get(id ?? '')
  return session && [id!, session]
}

const isUser = (user: ProviderUser, hint: string): boolean =>
  [user.sub, user.email, user.preferred_username].includes(hint)

// Core 3.1.2.1: what asks for a new authentication although there is a session
const isStale = (session: SsoSession, { prompt, max_age, login_hint, acr_values }: Params): boolean => {
  if (words(prompt).some((value) => value === 'login' || value === 'select_account')) return true
  if (max_age !== undefined && now() - session.auth_time > Number(max_age)) return true
  if (login_hint && !isUser(session.user, login_hint)) return true
  return acr_values !== undefined && !words(acr_values).includes(session.acr)
}

const proposedUser = (context: Context, { login_hint }: Params): ProviderUser =>
  context.users.find((user) => login_hint !== undefined && isUser(user, login_hint)) ?? findUser(context)

type Decision = { user: ProviderUser } | { problem: AuthorizationError }

const approvedUser = (context: Context, user: ProviderUser, approval: Approval | void): Decision => {
  if (approval === false) return { problem: { error: 'access_denied', error_description: 'the user said no' } }
  if (typeof approval === 'string') return { user: findUser(context, approval) }
  if (typeof approval !== 'object') return { user }
  return 'error' in approval ? { problem: approval as AuthorizationError } : { user: approval as ProviderUser }
}

/** Asks the person, that is the `approve` option. */
export const askUser = async (context: Context, params: Params): Promise<Decision> => {
  const user = proposedUser(context, params)
  return approvedUser(context, user, await context.options.approve?.(params, user))
}

interface Login {
  id: string
  session: SsoSession
}

type Found = [id: string, session: SsoSession] | undefined

// The same person authenticating again keeps the `sid`
const newSession = (context: Context, user: ProviderUser, { acr_values }: Params, old: Found): Login => {
  const id = random()
  const { sid, clients } = old?.[1].user === user ? old[1] : { sid: random(), clients: new Set<ProviderClient>() }
  if (old) context.sessions.delete(old[0])
  const session = { sid, user, auth_time: now(), acr: words(acr_values)[0] ?? String(user.acr ?? '1'), clients }
  context.sessions.set(id, session)
  return { id, session }
}

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

/** A page that posts itself (OAuth 2.0 Form Post Response Mode 2). */
const formPost = (action: string, params: URLSearchParams): string => {
  const fields = [...params].map(([name, value]) =>
    `<input type="hidden" name="${escapeHtml(name)}" value="${escapeHtml(value)}">`)
  const form = `<form method="post" action="${escapeHtml(action)}">${fields.join('')}</form>`
  return `<body onload="document.forms[0].submit()">${form}`
}

const withParams = (uri: string, separator: string, params: URLSearchParams): string =>
  params.size > 0 ? `${uri}${uri.includes(separator) ? '&' : separator}${params}` : uri

interface Result {
  code?: string
  error?: string
  error_description?: string
}

const responseParams = ({ context, faults }: Exchange, { state }: Params, result: Result): URLSearchParams => {
  const fields = new URLSearchParams({ ...result, ...(state !== undefined && { state }), iss: context.issuer })
  return faults.reduce((value, fault) => change(value, fault.authorizationResponse), fields)
}

const respond = (exchange: Exchange, params: Params, result: Result, headers?: Record<string, string>): Answer => {
  const changed = responseParams(exchange, params, result)
  const target = params.redirect_uri!
  if (params.response_mode === 'form_post') return html(formPost(target, changed), 200, headers)
  return redirect(withParams(target, params.response_mode === 'fragment' ? '#' : '?', changed), headers)
}

const sessionCookie = (context: Context, id: string): Record<string, string> => {
  const sameSite = context.options.tls ? 'None; Secure' : 'Lax'
  return { 'set-cookie': `${ssoCookie(context)}=${id}; Path=/; HttpOnly; SameSite=${sameSite}` }
}

/** The authorization endpoint: the person is asked at once, so the answer is always the response to the client. */
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

/** What of a pushed request is refused at once. */
export const checkPushed = (context: Context, params: Params): void => {
  if (params.request_uri) throw refusal('invalid_request', 'request_uri must not be pushed')
  const problem = findProblem({ ...params, pushed: 'true' }, context)
  if (problem) throw refusal(problem.error, problem.error_description ?? problem.error)
}
