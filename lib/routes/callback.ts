import { OidcError } from '../errors.ts'
import { logCompleted } from '../http/completed.ts'
import { isPrefetch } from '../http/fetch-metadata.ts'
import { formParams, printable, queryParams } from '../http/params.ts'
import { redirect } from '../http/redirect.ts'
import { describeLogin } from '../login/claims.ts'
import { idOf } from '../login/pending-login.ts'
import { en } from '../pages/languages/en.ts'
import { continuePage } from '../pages/pages.ts'
import { UNMET } from '../provider/id-token.ts'
import { remedyFor } from '../provider/oauth-error.ts'
import { hashOfNonce } from '../session/refresh-once.ts'
import type { FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import type { Parts } from '../compose.ts'
import type { NextLogin } from '../http/error-response.ts'
import type { BrowserParams } from '../http/params.ts'
import type { LoginRequest } from '../login/login.ts'
import type { LoginTrace, NativeLogin, PendingLogin } from '../login/pending-login.ts'
import type { TakenLogin } from '../login/pending-logins.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { Settings } from '../options/settings.ts'
import type { Provider } from '../provider/provider.ts'
import type { TokenSet } from '../provider/token-request.ts'
import type { Endpoint, ProviderNameOf } from './endpoint.ts'
import type { IdTokenClaims } from '../../types/claims.ts'

type ResponseMode = ProviderSettings['responseMode']

type CallbackParts = Pick<Parts,
  'settings' | 'urls' | 'providers' | 'pendingLogins' | 'guardedLogins' | 'silentLogin' | 'login' | 'acceptLogin' |
  'endedSessions' | 'sessions' | 'stepUp' | 'nativeLogins' | 'pages' | 'telemetry' | 'errorResponses'>

/** They must not come twice, whether they are read or not (RFC 6749, section 3.1). */
const RESPONSE_PARAMS = [
  'state', 'code', 'iss', 'error', 'error_description', 'error_uri', 'response', 'access_token', 'id_token'
]
/** The limit for a code, in characters: some providers put a whole token into it. */
const MAX_CODE = 16_384

/** What the provider answers (OpenID Connect Core 1.0, sections 3.1.2.5 and 3.1.2.6). */
interface AuthorizationResponse {
  state: string
  iss: string | undefined
  code: string | undefined
  error: string | undefined
  /** Only for the log, so it may be long and in any encoding. */
  description: string
}

/** One callback of a provider. */
interface Callback {
  provider: Provider
  response: AuthorizationResponse
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
  const handler = (mode: ResponseMode, paramsOf: (request: FastifyRequest) => BrowserParams): RouteHandlerMethod => {
    return async (request, reply) => {
      if (isPrefetch(request)) throw new OidcError('FST_OIDC_PREFETCH')
      const provider = await providers.get(request, nameOf(request))
      if (provider.settings.responseMode !== mode) throw new OidcError('FST_OIDC_METHOD')
      const response = readResponse(paramsOf(request))
      await handle({ provider, response, request, reply })
      return reply
    }
  }
  return {
    ...(responseMode !== 'form_post' && { GET: handler('query', queryParams) }),
    ...(responseMode !== 'query' && { POST: handler('form_post', formParams) })
  }
}

/** Throws FST_OIDC_PARAMETER, before the login is used up. */
function readResponse (params: BrowserParams): AuthorizationResponse {
  for (const name of RESPONSE_PARAMS) params.getAny(name)
  const error = params.getAny('error')
  return {
    state: params.get('state') ?? '',
    iss: params.get('iss'),
    code: error === undefined ? params.get('code', MAX_CODE) : undefined,
    error,
    description: params.getAny('error_description') ?? ''
  }
}

function createCallback (parts: CallbackParts): (callback: Callback) => Promise<void> {
  const { pendingLogins, nativeLogins, telemetry } = parts
  const complete = createCompletion(parts)
  const resume = createResumption(parts)
  const fail = createFailure(parts)

  /** The options may no longer allow a native login: the application may have restarted with other options. */
  function checkNative (taken: TakenLogin): TakenLogin {
    const native = nativeOf(taken)
    const isAllowed = native === undefined || nativeLogins?.isAllowed(native) === true
    return isAllowed ? taken : { status: 'unknown', reason: 'the options no longer allow this native login' }
  }

  return async (callback) => {
    const { provider, response, request, reply } = callback
    const taken = checkNative(await pendingLogins.take(request, reply, provider, response.state))
    try {
      await telemetry.span('oidc.callback', { 'oidc.provider': provider.name }, async () => {
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
  const { settings, urls, login: logins, guardedLogins, silentLogin, acceptLogin } = parts
  const { endedSessions, sessions, nativeLogins, pages, telemetry } = parts

  async function exchangeCode (
    login: PendingLogin,
    { provider, response }: Callback
  ): Promise<TokenSet & { claims: IdTokenClaims }> {
    const { iss } = response
    const params = { code: codeOf(response), state: login.state, ...(iss !== undefined && { iss }) }
    const { resource = provider.settings.resource } = login
    const request = { ...login, resource, redirectUri: urls.callback(provider.name) }
    return await telemetry.exchangeTokens(provider.name, async () => await provider.exchangeCode(request, params))
  }

  async function logIn (
    login: PendingLogin,
    loginAt: number,
    tokenSet: TokenSet & { claims: IdTokenClaims },
    { provider, request, reply }: Callback
  ): Promise<void> {
    const { native, resource, before, appState } = login
    const context = { returnTo: login.returnTo, appState: appState?.value, request, reply }
    const accepted = await acceptLogin(provider, tokenSet, context)
    if (accepted === null) return
    const { kept, user, returnTo } = accepted
    const { tokens } = tokenSet
    const description = describeLogin(tokenSet.claims, tokens.scope ?? provider.settings.scope)
    if (native !== undefined) {
      const finished = { native, loginAt, resource, ...kept, description, tokens }
      await nativeLogins?.finish(provider, finished, reply)
      return
    }
    await sessions.begin(request, provider, {
      loginAt,
      session: description,
      ...kept,
      user,
      tokens: { ...tokens, resource, nonce_hash: hashOfNonce(login.nonce) },
      before
    })
    telemetry.login(provider.name)
    logCompleted(request.log, 'login', { provider: provider.name, session: sessions.digest(request) })
    if (login.guarded === true) guardedLogins.add(request, reply, { ...login, returnTo })
    // Browsers send no SameSite=Strict cookie on the redirects of a navigation that another site began.
    if (settings.session.sameSite === 'strict') await pages.send(reply, continuePage(returnTo, 'loggedIn'))
    else redirect(request, reply, returnTo)
  }

  /** The page opens without the login. That the provider would have to ask the user is a usual answer. */
  function endSilent ({ returnTo }: PendingLogin, error: string, { response, request, reply }: Callback): void {
    if (!MUST_ASK.has(error)) {
      request.log.warn({ detail: describeError(error, response.description) }, 'the provider refused a silent login')
    }
    redirect(request, reply, returnTo)
  }

  async function askAgain (login: PendingLogin, { provider, request, reply }: Callback): Promise<void> {
    request.log.info('the provider has ignored max_age: the login begins once more, with prompt=login')
    await logins.start(provider, request, reply, { ...sameLogin(login), before: login.before, promptsLogin: true })
  }

  return async (login: PendingLogin, callback: Callback): Promise<void> => {
    const { provider, response, reply } = callback
    if (login.silent) silentLogin.suppress(reply)
    await provider.checkResponseIssuer(response.iss)
    if (login.silent && response.error !== undefined) return endSilent(login, response.error, callback)
    const loginAt = await endedSessions.loginTime()
    const tokenSet = await exchangeCode(login, callback).catch((error: OidcError) => {
      if (canAskAgain(login, error)) return null
      throw error
    })
    if (tokenSet === null) await askAgain(login, callback)
    else await logIn(login, loginAt, tokenSet, callback)
  }
}

/** Whether another login may help: the provider has ignored `max_age`, and the request had no `prompt=login`. */
function canAskAgain ({ silent, promptsLogin }: PendingLogin, { oauthError }: OidcError): boolean {
  return oauthError === UNMET && !silent && promptsLogin !== true
}

/** A login that asks for the same as an earlier one. */
function sameLogin (login: PendingLogin | LoginTrace): LoginRequest {
  const { returnTo, maxAge, acrValues, resource, native, appState, restarted } = login
  const { guarded = false, promptsLogin = false } = login
  return { returnTo, maxAge, acrValues, resource, native, appState, restarted, guarded, promptsLogin }
}

function codeOf (response: AuthorizationResponse): string {
  const { code, error, description } = response
  if (error !== undefined) throw refusedBy(error, description)
  if (code === undefined || code === '') throw new OidcError('FST_OIDC_PARAMETER', { detail: 'code is missing' })
  return code
}

function refusedBy (error: string, description: string): OidcError {
  const remedy = remedyFor(error)
  const advice = remedy === undefined ? '' : `; ${remedy}`
  return new OidcError('FST_OIDC_PROVIDER_REFUSED', {
    detail: describeError(error, description) + advice,
    level: remedy !== undefined ? 'error' : OUTAGES.has(error) ? 'warn' : 'info'
  })
}

/** The provider could not do its work (RFC 6749, section 4.1.2.1). */
const OUTAGES: ReadonlySet<string> = new Set(['server_error', 'temporarily_unavailable'])

/** The provider's error, for the log. */
function describeError (error: string, description: string): string {
  return `error ${printable(error)}: ${printable(description)}`
}

/**
 * For a callback that comes late or again: if the user is logged in, the browser goes to its page, unless `onClaims`
 * has not got the `appState` of this login. Otherwise the login starts again. The second time, it is an error.
 */
function createResumption ({ settings, sessions, login, pendingLogins }: CallbackParts) {
  /**
   * Some providers answer `prompt=none` with an error without `state`. If the browser waits for one silent login only,
   * it goes to its page. Any site can send a browser here, so nothing else happens.
   */
  function pageOfSilent ({ provider, response, request }: Callback): string | undefined {
    const isError = response.error !== undefined && response.state === ''
    const isOfProvider = [undefined, provider.settings.issuer].includes(response.iss)
    return isError && isOfProvider ? pendingLogins.pageOfSilent(request, provider) : undefined
  }

  return async (taken: Exclude<TakenLogin, { status: 'fresh' }>, callback: Callback): Promise<void> => {
    const { provider, response, request, reply } = callback
    const silentPage = taken.status === 'unknown' ? pageOfSilent(callback) : undefined
    if (silentPage !== undefined) {
      request.log.info({ error: printable(response.error as string) }, 'the answer to a silent login has no state')
      return redirect(request, reply, silentPage)
    }
    const returnTo = taken.status === 'over' ? taken.returnTo : settings.defaultReturnTo
    const native = nativeOf(taken)
    const isSilent = taken.status === 'over' && taken.silent
    const owesAppState = taken.status === 'over' && taken.owesAppState
    const goesOn = native === undefined && ((sessions.read(request) !== null && !owesAppState) || isSilent)
    if (goesOn) return redirect(request, reply, returnTo)
    if (taken.status === 'unknown') throw unknownState(taken, settings, callback)
    if (taken.restarted) {
      const reason = `the login began once more, and is over again: ${taken.reason}`
      throw unknownState({ reason }, settings, callback)
    }
    request.log.info({ reason: taken.reason }, 'the login is over, and begins once more')
    await login.start(provider, request, reply, { ...sameLogin(taken), restarted: true })
  }
}

// A provider that refuses may forget the state: its error would appear nowhere else.
function unknownState (
  { reason, isTooOld = false }: { reason: string, isTooOld?: boolean },
  { baseUrl }: Pick<Settings, 'baseUrl'>,
  { request, response: { error, description } }: Callback
): OidcError {
  const { host } = new URL(baseUrl)
  const detail = [
    reason,
    // A browser sends its cookies only to the host that has set them. A proxy may have changed the host.
    ...(request.host !== host ? [`the request came to ${printable(request.host)}, "baseUrl" is ${baseUrl}`] : []),
    ...(error === undefined ? [] : [`the provider: ${describeError(error, description)}`])
  ].join('; ')
  const lacksCookies = request.headers.cookie === undefined && !isTooOld
  return new OidcError('FST_OIDC_STATE', { detail, ...(lacksCookies && NO_COOKIES) })
}

const NO_COOKIES = { message: en.noCookies }

/**
 * For an error: a page that offers a new login. If the provider refuses the code and another tab has logged in,
 * the browser goes to its page instead, unless that would lose an `appState`.
 */
function createFailure ({ sessions, stepUp, nativeLogins, errorResponses: { sendError } }: CallbackParts) {
  /** A login for the same. Single sign-on would log in the same account again. */
  function nextLogin (login: LoginTrace | undefined, error: unknown): NextLogin {
    const isRefused = error instanceof OidcError && REFUSED.has(error.code)
    const account = isRefused ? { otherAccount: true } : {}
    const appState = login?.appState && { ...login.appState, id: idOf(login.state) }
    return { returnTo: login?.returnTo, stepUp: stepUp.seal({ ...account, appState }), ...account }
  }

  return async (taken: TakenLogin, error: unknown, callback: Callback): Promise<void> => {
    const { provider, request, reply } = callback
    const login = taken.status === 'fresh' ? taken.login : undefined
    if (login?.native !== undefined) return await nativeLogins?.refuse(login.native, error, request, reply)
    const isCodeRefused = error instanceof OidcError && error.code === 'FST_OIDC_CODE'
    const canGoOn = isCodeRefused && login?.appState === undefined
    if (login !== undefined && canGoOn && sessions.read(request) !== null) {
      return redirect(request, reply, login.returnTo)
    }
    const next = nextLogin(taken.status === 'over' ? taken : login, error)
    await sendError(error, request, reply, { ...next, providers: [provider.name] })
  }
}

const REFUSED: ReadonlySet<string> = new Set(['FST_OIDC_CLAIMS', 'FST_OIDC_PROVIDER_REFUSED'])
