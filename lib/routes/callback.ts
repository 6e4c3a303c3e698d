import { isPrefetch } from '../caller.ts'
import { keepClaims } from '../claims.ts'
import { OidcError } from '../errors.ts'
import { goTo, startLogin } from '../login.ts'
import { reportEnd } from '../logout.ts'
import { continuePage } from '../pages.ts'
import { formParams, queryParams } from '../params.ts'
import { refuse } from '../refuse.ts'
import { exchangeTokens } from '../token-exchange.ts'
import { runHook } from '../replied.ts'
import type { FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify'
import type { Core } from '../core.ts'
import type { Params } from '../params.ts'
import type { PendingLogin, Taken } from '../pending.ts'
import type { TokenSet } from '../provider.ts'
import type { IdTokenClaims, OidcClaims, OidcUser } from '../../types/claims.ts'
import type { ClaimsContext } from '../../types/options.ts'
import type { Endpoint } from './index.ts'

/** `GET callback`, or `POST callback` where the provider answers with a form (OpenID Connect Core 1.0, section 3.1.2.5). */
export function callbackEndpoint (core: Core): Endpoint {
  const endpoint = (paramsOf: (request: FastifyRequest) => Params): RouteHandlerMethod => async (request, reply) => {
    await callback(core, paramsOf(request), request, reply)
    return reply
  }
  return core.settings.provider.responseMode === 'form_post' ? { POST: endpoint(formParams) } : { GET: endpoint(queryParams) }
}

async function callback (core: Core, params: Params, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (isPrefetch(request)) throw new OidcError('FST_OIDC_PREFETCH')
  const taken = core.pending.take(request, reply, params.get('state') ?? '')
  await core.telemetry.span('oidc.callback', async () => {
    if (taken.status === 'fresh') await complete(core, taken.login, params, request, reply)
    else await resume(core, taken, request, reply)
  }).catch(async (error: unknown) => await fail(core, taken, error, request, reply))
}

async function complete (core: Core, login: PendingLogin, params: Params, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  await core.provider.checkResponseIssuer(params.get('iss'))
  const tokenSet = await exchangeCode(core, login, params)
  await logIn(core, login, tokenSet, request, reply)
}

/** An error offers to start again; a code that the provider does not take any more is none for whom another tab has logged in. */
async function fail (core: Core, taken: Taken, error: unknown, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const returnTo = taken.status === 'fresh' ? taken.login.returnTo : undefined
  const isOver = returnTo !== undefined && error instanceof OidcError && error.code === 'FST_OIDC_CODE'
  if (isOver && core.sessions.read(request) !== null) goTo(request, reply, returnTo)
  else await refuse(core, error, request, reply, returnTo)
}

/** A callback that comes late, or again: on to where it was to go, else once more from the start, else an error. */
async function resume (core: Core, taken: Exclude<Taken, { status: 'fresh' }>, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const returnTo = taken.status === 'over' ? taken.returnTo : core.settings.defaultReturnTo
  if (core.sessions.read(request) !== null) return goTo(request, reply, returnTo)
  if (taken.status === 'unknown' || taken.restarted) throw new OidcError('FST_OIDC_STATE')
  await startLogin(core, request, reply, { returnTo, maxAge: taken.maxAge, acrValues: taken.acrValues, restarted: true })
}

async function exchangeCode (core: Core, login: PendingLogin, params: Params): Promise<TokenSet & { claims: IdTokenClaims }> {
  const code = codeOf(params)
  const iss = params.get('iss')
  const response = { code, state: login.state, ...(iss !== undefined && { iss }) }
  return await exchangeTokens(core.telemetry, async () => await core.provider.exchangeCode(login, response))
}

function codeOf (params: Params): string {
  const error = params.get('error')
  if (error !== undefined) throw new OidcError('FST_OIDC_PROVIDER_REFUSED', { detail: `error ${printable(error)}: ${printable(params.get('error_description') ?? '')}` })
  const code = params.get('code')
  if (code === undefined || code === '') throw new OidcError('FST_OIDC_PARAMETER', { detail: 'code is missing' })
  return code
}

function printable (text: string): string {
  return text.slice(0, 200).replace(/[^\x20-\x7e]/g, '?')
}

async function logIn (
  core: Core, login: PendingLogin, { tokens, claims: idTokenClaims }: TokenSet & { claims: IdTokenClaims }, request: FastifyRequest, reply: FastifyReply
): Promise<void> {
  const userinfo: ClaimsContext['userinfo'] = async () => await core.telemetry.span('oidc.userinfo', async () => await core.provider.userinfo(tokens.access_token, idTokenClaims.sub))
  const claims = core.settings.provider.userinfo ? { ...await userinfo(), ...idTokenClaims } : idTokenClaims
  const kept = await parseClaims(core, claims)
  const { result: user, replied } = await askApplication(core, claims, { provider: login.provider, tokens, userinfo, returnTo: login.returnTo, request, reply })
  if (replied) return
  const before = core.sessions.read(request)
  core.sessions.begin(request, { session: sessionOf(core, login, idTokenClaims, tokens.scope), claims: kept, user: user ?? null, tokens })
  core.telemetry.login()
  if (before !== null) await reportEnd(core, request, before, 'login')
  // A cookie with SameSite=Strict is not sent on the redirects of a navigation that another site began.
  if (core.settings.session.sameSite === 'strict') continuePage(reply, login.returnTo)
  else goTo(request, reply, login.returnTo)
}

function sessionOf (core: Core, login: PendingLogin, claims: IdTokenClaims, scope = core.settings.provider.scope) {
  return {
    provider: login.provider,
    scopes: scope.split(' ').filter(Boolean),
    ...(typeof claims.sid === 'string' && { sid: claims.sid }),
    ...(claims.auth_time !== undefined && { authTime: claims.auth_time }),
    ...(typeof claims.acr === 'string' && { acr: claims.acr })
  }
}

async function parseClaims ({ settings }: Core, claims: IdTokenClaims): Promise<OidcClaims> {
  if (settings.parseClaims === undefined) return keepClaims(claims, settings.claims)
  const parsed = await ask('parseClaims', async () => await settings.parseClaims?.(claims))
  return { ...parsed, iss: claims.iss, sub: claims.sub }
}

async function askApplication ({ settings }: Core, claims: IdTokenClaims, context: ClaimsContext): Promise<{ result: OidcUser | null | undefined | void, replied: boolean }> {
  return await ask('onClaims', async () => await runHook(context.reply, () => settings.onClaims?.(claims, context)))
}

async function ask<T> (name: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (cause) {
    if (cause instanceof OidcError) throw cause
    throw new OidcError('FST_OIDC_CLAIMS', { cause, detail: `${name}: ${cause instanceof Error ? cause.message : 'refused'}` })
  }
}
