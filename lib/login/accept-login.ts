import { keepClaims } from '../guard/constraints.ts'
import { OidcError } from '../errors.ts'
import { runHook } from '../http/run-hook.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Core } from '../compose.ts'
import type { Provider, TokenSet } from '../provider/provider.ts'
import type { IdTokenClaims, OidcClaims, OidcTokens, OidcUser, UserinfoClaims } from '../../types/claims.ts'
import type { ClaimsContext } from '../../types/options.ts'

/** A login that the application has accepted. */
export interface AcceptedLogin {
  claims: OidcClaims
  user: OidcUser | null
}

export interface AcceptContext {
  returnTo: string
  request: FastifyRequest
  reply: FastifyReply
}

/**
 * Asks the application about a person whom the provider has named; `null` when it has answered the request
 * itself. Throws FST_OIDC_CLAIMS when it refuses.
 */
export async function acceptLogin (
  core: Core,
  provider: Provider,
  { tokens, claims: idTokenClaims }: TokenSet & { claims: IdTokenClaims },
  context: AcceptContext
): Promise<AcceptedLogin | null> {
  const userinfo: ClaimsContext['userinfo'] = async () => await askUserinfo(core, provider, tokens, idTokenClaims)
  const all = await readClaims(core, provider, tokens, idTokenClaims)
  const claims = await parseClaims(core, all)
  const { result: user, replied } = await ask(
    'onClaims',
    async () =>
      await runHook(context.reply, () =>
        core.settings.onClaims?.(all, { provider: provider.name, tokens, userinfo, ...context })
      )
  )
  return replied ? null : { claims, user: user ?? null }
}

/** What the provider says of a person: in the ID token, and where the application wants it at UserInfo. */
export async function readClaims (
  core: Pick<Core, 'telemetry'>,
  provider: Provider,
  tokens: OidcTokens,
  claims: IdTokenClaims
): Promise<IdTokenClaims> {
  return provider.settings.userinfo ? { ...(await askUserinfo(core, provider, tokens, claims)), ...claims } : claims
}

/** The same at a refresh without an ID token: what UserInfo says is newer than the token of the login. */
export async function refreshClaims (
  core: Pick<Core, 'telemetry'>,
  provider: Provider,
  tokens: OidcTokens,
  first: IdTokenClaims
): Promise<IdTokenClaims> {
  return { ...first, ...(await askUserinfo(core, provider, tokens, first)), iss: first.iss, sub: first.sub }
}

async function askUserinfo (
  { telemetry }: Pick<Core, 'telemetry'>,
  provider: Provider,
  { access_token: accessToken }: OidcTokens,
  { sub }: IdTokenClaims
): Promise<UserinfoClaims> {
  return await telemetry.span('oidc.userinfo', async () => await provider.userinfo(accessToken, sub))
}

/** What the provider told of the login itself. */
export function sessionOf (claims: IdTokenClaims, scope: string) {
  return {
    scopes: scope.split(' ').filter(Boolean),
    ...(typeof claims.sid === 'string' && { sid: claims.sid }),
    ...(claims.auth_time !== undefined && { authTime: claims.auth_time }),
    ...(typeof claims.acr === 'string' && { acr: claims.acr })
  }
}

/** The claims to keep. */
export async function parseClaims ({ settings }: Pick<Core, 'settings'>, claims: IdTokenClaims): Promise<OidcClaims> {
  if (settings.parseClaims === undefined) return keepClaims(claims, settings.claims)
  const parsed = await ask('parseClaims', async () => await settings.parseClaims?.(claims))
  return { ...parsed, iss: claims.iss, sub: claims.sub }
}

/** Calls a function of the application: what it throws refuses the person. */
export async function ask<T> (name: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (cause) {
    if (cause instanceof OidcError) throw cause
    throw new OidcError('FST_OIDC_CLAIMS', {
      cause,
      detail: `${name}: ${cause instanceof Error ? cause.message : 'refused'}`
    })
  }
}
