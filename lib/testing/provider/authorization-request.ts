import { escapeHtml, html, refusal } from './answer.ts'
import { now } from './context.ts'
import type { Context, Exchange } from './context.ts'
import type { ProviderClient } from './options.ts'

export type Params = Record<string, string>

export interface AuthorizationError {
  error: string
  error_description?: string
}

const badPage = (text: string) => Object.assign(new Error(text), { answer: html(`<p>${escapeHtml(text)}</p>`, 400) })

/** The parameters of the request, or those that were pushed before (RFC 9126, section 4). */
export const requestParams = ({ context, request }: Exchange): Params => {
  const given = request.method === 'POST' ? request.body : request.query
  if (!given.request_uri) return given
  const pushed = context.pushed.get(given.request_uri)
  context.pushed.delete(given.request_uri)
  if (!pushed || pushed.expires <= now()) throw badPage('unknown or expired request_uri')
  if (pushed.params.client_id !== given.client_id) throw badPage('the request_uri belongs to another client')
  return { ...pushed.params, pushed: 'true' }
}

// When one of these is wrong, the error must not go to the redirect URI (RFC 6749, section 4.1.2.1)
export const checkTarget = ({ clients }: Context, { client_id, redirect_uri }: Params): ProviderClient => {
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

/** Returns the first error in the parameters. */
export const findProblem = (params: Params, context: Context): AuthorizationError | undefined => {
  for (const rule of rules) {
    const problem = rule(params, context)
    if (problem) return problem
  }
}

/** Checks the parameters of a pushed request. */
export const checkPushed = (context: Context, params: Params): void => {
  if (params.request_uri) throw refusal('invalid_request', 'request_uri must not be pushed')
  const problem = findProblem({ ...params, pushed: 'true' }, context)
  if (problem) throw refusal(problem.error, problem.error_description ?? problem.error)
}
