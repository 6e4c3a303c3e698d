import { OidcError } from '../errors.ts'
import { isPrefetch } from '../http/fetch-metadata.ts'
import { continuePage } from '../http/pages.ts'
import { formParams, queryParams } from '../http/params.ts'
import { redirect } from '../http/redirect.ts'
import { describeLogin } from '../login/claims.ts'
import type { FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import type { Parts } from '../compose.ts'
import type { Params } from '../http/params.ts'
import type { NativeLogin, PendingLogin } from '../login/pending-login.ts'
import type { TakenLogin } from '../login/pending-logins.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { Provider } from '../provider/provider.ts'
import type { TokenSet } from '../provider/token-request.ts'
import type { Endpoint, ProviderNameOf } from './endpoint.ts'
import type { IdTokenClaims } from '../../types/claims.ts'

type ResponseMode = ProviderSettings['responseMode']

type CallbackParts = Pick<Parts,
  'settings' | 'urls' | 'providers' | 'pendingLogins' | 'login' | 'acceptLogin' | 'sessions' | 'nativeLogins' |
  'telemetry' | 'errorResponses'>

/** One callback of a provider. */
interface Callback {
  provider: Provider
  params: Params
  request: FastifyRequest
  reply: FastifyReply
}

/** `GET callback`, or `POST callback` with the response mode form_post (OpenID Connect Core 1.0, section 3.1.2.5). */
export function callbackEndpoint (
  parts: CallbackParts,
  nameOf: ProviderNameOf,
  responseMode: ResponseMode | undefined
): Endpoint {
  const { providers } = parts
  const handle = createCallback(parts)
  const handler = (mode: ResponseMode, paramsOf: (request: FastifyRequest) => Params): RouteHandlerMethod => {
    return async (request, reply) => {
      if (isPrefetch(request)) throw new OidcError('FST_OIDC_PREFETCH')
      const provider = await providers.get(request, nameOf(request))
      if (provider.settings.responseMode !== mode) throw new OidcError('FST_OIDC_METHOD')
      await handle({ provider, params: paramsOf(request), request, reply })
      return reply
    }
  }
  return {
    ...(responseMode !== 'form_post' && { GET: handler('query', queryParams) }),
    ...(responseMode !== 'query' && { POST: handler('form_post', formParams) })
  }
}

function createCallback (parts: CallbackParts): (callback: Callback) => Promise<void> {
  const { pendingLogins, nativeLogins, telemetry } = parts
  const complete = createCompletion(parts)
  const resume = createResumption(parts)
  const fail = createFailure(parts)

  /** Whether the options still allow a native login: the application may have restarted with other options. */
  function isAllowed (taken: TakenLogin): boolean {
    const native = nativeOf(taken)
    return native === undefined || nativeLogins?.isAllowed(native) === true
  }

  return async (callback) => {
    const { provider, params, request, reply } = callback
    const found = await pendingLogins.take(request, reply, provider, params.get('state') ?? '')
    const taken: TakenLogin = isAllowed(found) ? found : { status: 'unknown' }
    try {
      await telemetry.span('oidc.callback', async () => {
        if (taken.status === 'fresh') await complete(taken.login, callback)
        else await resume(taken, callback)
      })
    } catch (error) {
      await fail(taken, error, callback)
    }
  }
}

/** The native login that the callback belongs to. */
function nativeOf (taken: TakenLogin): NativeLogin | undefined {
  if (taken.status === 'unknown') return undefined
  return taken.status === 'fresh' ? taken.login.native : taken.native
}

// OpenID Connect Core 1.0, section 3.1.2.6: the provider would have to ask the user, and prompt=none forbids that.
const MUST_ASK: ReadonlySet<string> = new Set([
  'login_required', 'interaction_required', 'consent_required', 'account_selection_required'
])

/** Completes a login: redeems the code, asks the application, and begins the session. */
function createCompletion (parts: CallbackParts) {
  const { settings, urls, acceptLogin, sessions, nativeLogins, telemetry } = parts

  async function exchangeCode (
    login: PendingLogin,
    { provider, params }: Callback
  ): Promise<TokenSet & { claims: IdTokenClaims }> {
    const code = codeOf(params)
    const iss = params.get('iss')
    const response = { code, state: login.state, ...(iss !== undefined && { iss }) }
    const { resource = provider.settings.resource } = login
    const request = { ...login, resource, redirectUri: urls.callback(provider.name) }
    return await telemetry.exchangeTokens(async () => await provider.exchangeCode(request, response))
  }

  async function logIn (
    login: PendingLogin,
    loginAt: number,
    tokenSet: TokenSet & { claims: IdTokenClaims },
    { provider, request, reply }: Callback
  ): Promise<void> {
    const { native, resource, returnTo, before } = login
    const accepted = await acceptLogin(provider, tokenSet, { returnTo, request, reply })
    if (accepted === null) return
    const { tokens } = tokenSet
    const description = describeLogin(tokenSet.claims, tokens.scope ?? provider.settings.scope)
    if (native !== undefined) {
      const finished = { native, loginAt, resource, claims: accepted.claims, description, tokens }
      await nativeLogins?.finish(provider, finished, request, reply)
      return
    }
    await sessions.begin(request, provider, {
      loginAt, session: description, ...accepted, tokens: { ...tokens, resource }, before
    })
    telemetry.login()
    // Browsers send no SameSite=Strict cookie on the redirects of a navigation that another site began.
    if (settings.session.sameSite === 'strict') continuePage(reply, returnTo)
    else redirect(request, reply, returnTo)
  }

  return async (login: PendingLogin, callback: Callback): Promise<void> => {
    const { provider, params, request, reply } = callback
    await provider.checkResponseIssuer(params.get('iss'))
    if (login.silent && MUST_ASK.has(params.get('error') ?? '')) return redirect(request, reply, login.returnTo)
    const loginAt = Date.now()
    const tokenSet = await exchangeCode(login, callback)
    await logIn(login, loginAt, tokenSet, callback)
  }
}

function codeOf (params: Params): string {
  const error = params.get('error')
  if (error !== undefined) {
    const description = printable(params.get('error_description') ?? '')
    throw new OidcError('FST_OIDC_PROVIDER_REFUSED', { detail: `error ${printable(error)}: ${description}` })
  }
  const code = params.get('code')
  if (code === undefined || code === '') throw new OidcError('FST_OIDC_PARAMETER', { detail: 'code is missing' })
  return code
}

function printable (text: string): string {
  return text.slice(0, 200).replace(/[^\x20-\x7e]/g, '?')
}

/**
 * For a callback that comes late or again: if the user is logged in, the browser goes to its page.
 * Otherwise the login starts again. The second time, it is an error.
 */
function createResumption ({ settings, sessions, login }: CallbackParts) {
  return async (taken: Exclude<TakenLogin, { status: 'fresh' }>, callback: Callback): Promise<void> => {
    const { provider, request, reply } = callback
    const returnTo = taken.status === 'over' ? taken.returnTo : settings.defaultReturnTo
    const native = nativeOf(taken)
    const isSilent = taken.status === 'over' && taken.silent
    const goesOn = native === undefined && (sessions.read(request) !== null || isSilent)
    if (goesOn) return redirect(request, reply, returnTo)
    if (taken.status === 'unknown' || taken.restarted) throw new OidcError('FST_OIDC_STATE')
    const { maxAge, acrValues, resource } = taken
    await login.start(provider, request, reply, { returnTo, maxAge, acrValues, resource, native, restarted: true })
  }
}

/**
 * For an error: a page that offers a new login. If the provider refuses the code and another tab has logged in,
 * the browser goes to its page instead.
 */
function createFailure ({ sessions, nativeLogins, errorResponses: { sendError } }: CallbackParts) {
  return async (taken: TakenLogin, error: unknown, callback: Callback): Promise<void> => {
    const { provider, request, reply } = callback
    const login = taken.status === 'fresh' ? taken.login : undefined
    if (login?.native !== undefined) return nativeLogins?.refuse(login.native, error, request, reply)
    const isCodeRefused = error instanceof OidcError && error.code === 'FST_OIDC_CODE'
    if (login !== undefined && isCodeRefused && sessions.read(request) !== null) {
      return redirect(request, reply, login.returnTo)
    }
    await sendError(error, request, reply, { returnTo: login?.returnTo, providers: [provider.name] })
  }
}
