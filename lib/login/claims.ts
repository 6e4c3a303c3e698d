import type { IdTokenClaims, OidcClaims, UserinfoClaims, OidcTokens } from '../../types/claims.ts'
import type { Provider } from '../provider/provider.ts'
import type { Core } from '../compose.ts'
import { callHook } from '../http/run-hook.ts'

// They belong to the token, not to the person.
export const PROTOCOL_CLAIMS = new Set([
  'aud', 'azp', 'exp', 'iat', 'nbf', 'jti', 'nonce', 'at_hash', 'c_hash', 's_hash', 'sid', 'auth_time'
])
/** The claims that the session keeps; `iss` and `sub` always. */
export function keepClaims (claims: IdTokenClaims, names: readonly string[] | undefined): OidcClaims {
  const kept = Object.entries(claims).filter(([name]) =>
    names === undefined ? !PROTOCOL_CLAIMS.has(name) : names.includes(name)
  )
  return { ...Object.fromEntries(kept), iss: claims.iss, sub: claims.sub }
}

export async function askUserinfo (
  { telemetry }: Pick<Core, 'telemetry'>,
  provider: Provider,
  { access_token: accessToken }: OidcTokens,
  { sub }: IdTokenClaims): Promise<UserinfoClaims> {
  return await telemetry.span('oidc.userinfo', async () => await provider.userinfo(accessToken, sub))
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
  const parsed = await callHook('parseClaims', async () => await settings.parseClaims?.(claims))
  return { ...parsed, iss: claims.iss, sub: claims.sub }
}
