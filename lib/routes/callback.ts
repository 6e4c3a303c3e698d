import { acceptLogin } from '../login/accept-login.ts'
import { sessionOf } from '../login/claims.ts'
import { findProvider } from '../guard/guards.ts'
import { finishNativeLogin, isServed, refuseNativeLogin } from '../broker/native-login.ts'
import { isPrefetch } from '../http/fetch-metadata.ts'
import { OidcError } from '../errors.ts'
import { startLogin } from '../login/login.ts'
import { redirect } from '../http/redirect.ts'
import { reportEnd } from '../logout/logout.ts'
import { continuePage } from '../http/pages.ts'
import { formParams, queryParams } from '../http/params.ts'
import { sendError } from '../http/error-response.ts'
import { exchangeTokens } from '../token-exchange.ts'
import type { FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import type { NativeLogin } from '../broker/native-login.ts'
import type { Core } from '../compose.ts'
import type { Params } from '../http/params.ts'
import type { PendingLogin, Taken } from '../login/pending-logins.ts'
import type { Provider, TokenSet } from '../provider/provider.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { IdTokenClaims } from '../../types/claims.ts'
import type { Endpoint } from './index.ts'

type ResponseMode = ProviderSettings['responseMode']

/**
 * `GET callback`, or `POST callback` where the provider answers with a form (OpenID Connect Core 1.0, section
 * 3.1.2.5).
 */
export function callbackEndpoint (
  core: Core,
  nameOf: (request: FastifyRequest) => string,
  responseMode: ResponseMode | undefined
): Endpoint {
  const endpoint =
    (mode: ResponseMode, paramsOf: (request: FastifyRequest) => Params): RouteHandlerMethod =>
      async (request, reply) => {
        if (isPrefetch(request)) throw new OidcError('FST_OIDC_PREFETCH')
        const provider = await findProvider(core, request, nameOf(request))
        if (provider.settings.responseMode !== mode) throw new OidcError('FST_OIDC_METHOD')
        await callback(core, provider, paramsOf(request), request, reply)
        return reply
      }
  return {
    ...(responseMode !== 'form_post' && { GET: endpoint('query', queryParams) }),
    ...(responseMode !== 'query' && { POST: endpoint('form_post', formParams) })
  }
}

async function callback (
  core: Core,
  provider: Provider,
  params: Params,
  request: FastifyRequest,
  reply: FastifyReply
): Promise<void> {
  const found = await core.pending.take(request, reply, provider, params.get('state') ?? '')
  const taken: Taken = isServed(core, nativeOf(found)) ? found : { status: 'unknown' }
  await core.telemetry.span('oidc.callback', async () => {
    if (taken.status === 'fresh') await complete(core, provider, taken.login, params, request, reply)
    else await resume(core, provider, taken, request, reply)
  }).catch(async (error: unknown) => await fail(core, provider, taken, error, request, reply))
}

async function complete (
  core: Core,
  provider: Provider,
  login: PendingLogin,
  params: Params,
  request: FastifyRequest,
  reply: FastifyReply
): Promise<void> {
  await provider.checkResponseIssuer(params.get('iss'))
  if (login.silent && MUST_ASK.has(params.get('error') ?? '')) return redirect(request, reply, login.returnTo)
  const loginAt = Date.now()
  const tokenSet = await exchangeCode(core, provider, login, params)
  await logIn(core, provider, { ...login, loginAt }, tokenSet, request, reply)
}

// OpenID Connect Core 1.0, section 3.1.2.6: what a provider answers to prompt=none when it would have to ask something.
const MUST_ASK: ReadonlySet<string> = new Set([
  'login_required', 'interaction_required', 'consent_required', 'account_selection_required'
])

/** The native application that a login was begun for. */
function nativeOf (taken: Taken): NativeLogin | undefined {
  if (taken.status === 'unknown') return undefined
  return taken.status === 'fresh' ? taken.login.native : taken.native
}

/**
 * An error offers to start again; a code that the provider does not take any more is none for whom another
 * tab has logged in.
 */
async function fail (
  core: Core,
  provider: Provider,
  taken: Taken,
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply
): Promise<void> {
  const returnTo = taken.status === 'fresh' ? taken.login.returnTo : undefined
  const native = taken.status === 'fresh' ? taken.login.native : undefined
  if (native !== undefined) return refuseNativeLogin(core, native, error, request, reply)
  const isOver = returnTo !== undefined && error instanceof OidcError && error.code === 'FST_OIDC_CODE'
  if (isOver && core.sessions.read(request) !== null) redirect(request, reply, returnTo)
  else await sendError(core, error, request, reply, { returnTo, providers: [provider.name] })
}

/** A callback that comes late, or again: on to where it was to go, else once more from the start, else an error. */
async function resume (
  core: Core,
  provider: Provider,
  taken: Exclude<Taken, { status: 'fresh' }>,
  request: FastifyRequest,
  reply: FastifyReply
): Promise<void> {
  const returnTo = taken.status === 'over' ? taken.returnTo : core.settings.defaultReturnTo
  const native = nativeOf(taken)
  const goesOn =
    native === undefined && (core.sessions.read(request) !== null || (taken.status === 'over' && taken.silent))
  if (goesOn) return redirect(request, reply, returnTo)
  if (taken.status === 'unknown' || taken.restarted) throw new OidcError('FST_OIDC_STATE')
  const { maxAge, acrValues, resource } = taken
  await startLogin(core, provider, request, reply, { returnTo, maxAge, acrValues, resource, native, restarted: true })
}

async function exchangeCode (
  core: Core,
  provider: Provider,
  login: PendingLogin,
  params: Params
): Promise<TokenSet & { claims: IdTokenClaims }> {
  const code = codeOf(params)
  const iss = params.get('iss')
  const response = { code, state: login.state, ...(iss !== undefined && { iss }) }
  const { resource = provider.settings.resource } = login
  const sent = { ...login, resource, redirectUri: core.urls.callback(provider.name) }
  return await exchangeTokens(core.telemetry, async () => await provider.exchangeCode(sent, response))
}

function codeOf (params: Params): string {
  const error = params.get('error')
  if (error !== undefined) {
    throw new OidcError('FST_OIDC_PROVIDER_REFUSED', {
      detail: `error ${printable(error)}: ${printable(params.get('error_description') ?? '')}`
    })
  }
  const code = params.get('code')
  if (code === undefined || code === '') throw new OidcError('FST_OIDC_PARAMETER', { detail: 'code is missing' })
  return code
}

function printable (text: string): string {
  return text.slice(0, 200).replace(/[^\x20-\x7e]/g, '?')
}

async function logIn (
  core: Core,
  provider: Provider,
  login: PendingLogin & { loginAt: number },
  tokenSet: TokenSet & { claims: IdTokenClaims },
  request: FastifyRequest,
  reply: FastifyReply
): Promise<void> {
  const accepted = await acceptLogin(core, provider, tokenSet, { returnTo: login.returnTo, request, reply })
  if (accepted === null) return
  const session = sessionOf(tokenSet.claims, tokenSet.tokens.scope ?? provider.settings.scope)
  if (login.native !== undefined) {
    return await finishNativeLogin(
      core,
      provider,
      { ...login, native: login.native },
      { ...accepted, session, tokens: tokenSet.tokens },
      request,
      reply
    )
  }
  const before = await core.sessions.begin(request, provider, {
    loginAt: login.loginAt,
    session,
    ...accepted,
    tokens: { ...tokenSet.tokens, resource: login.resource },
    before: login.before
  })
  core.telemetry.login()
  if (before !== null) await reportEnd(core, request, { session: before }, 'login')
  // A cookie with SameSite=Strict is not sent on the redirects of a navigation that another site began.
  if (core.settings.session.sameSite === 'strict') continuePage(reply, login.returnTo)
  else redirect(request, reply, login.returnTo)
}
