import { callHook } from '../http/run-hook.ts'
import type { Settings } from '../options/settings.ts'
import type { Provider } from '../provider/provider.ts'
import type { Telemetry } from '../telemetry.ts'
import type { IdTokenClaims, OidcClaims, OidcTokens, UserinfoClaims } from '../../types/claims.ts'

/** The claims of a user, from the sources that the options name. Each function throws an OidcError. */
export interface UserClaims {
  /** From the ID token of a login, and from UserInfo where `userinfo` is set. The ID token wins. */
  read: (provider: Provider, tokens: OidcTokens, idToken: IdTokenClaims) => Promise<IdTokenClaims>
  /** From UserInfo after a refresh without an ID token. UserInfo wins: it is newer than the ID token of the login. */
  renew: (provider: Provider, tokens: OidcTokens, idToken: IdTokenClaims) => Promise<IdTokenClaims>
  /** From UserInfo alone. */
  userinfo: (provider: Provider, tokens: OidcTokens, idToken: IdTokenClaims) => Promise<UserinfoClaims>
  /** The claims that the application keeps. */
  parse: (claims: IdTokenClaims) => Promise<OidcClaims>
}

export interface UserClaimsParts extends Pick<Settings, 'claims' | 'parseClaims'> {
  telemetry: Telemetry
}

export function createUserClaims ({ claims: names, parseClaims, telemetry }: UserClaimsParts): UserClaims {
  const userinfo: UserClaims['userinfo'] = async (provider, { access_token: accessToken }, { sub }) =>
    await telemetry.span('oidc.userinfo', async () => await provider.userinfo(accessToken, sub))

  return {
    userinfo,

    async read (provider, tokens, idToken) {
      return provider.settings.userinfo ? { ...(await userinfo(provider, tokens, idToken)), ...idToken } : idToken
    },

    async renew (provider, tokens, idToken) {
      const { iss, sub } = idToken
      return { ...idToken, ...(await userinfo(provider, tokens, idToken)), iss, sub }
    },

    async parse (claims) {
      if (parseClaims === undefined) return selectClaims(claims, names)
      const parsed = await callHook('parseClaims', async () => await parseClaims(claims))
      return { ...parsed, iss: claims.iss, sub: claims.sub }
    }
  }
}

// These claims describe the token, not the user.
const PROTOCOL_CLAIMS: ReadonlySet<string> = new Set([
  'aud', 'azp', 'exp', 'iat', 'nbf', 'jti', 'nonce', 'at_hash', 'c_hash', 's_hash', 'sid', 'auth_time'
])

/** The claims with these names, by default all but those of the protocol; `iss` and `sub` always. */
function selectClaims (claims: IdTokenClaims, names: readonly string[] | undefined): OidcClaims {
  const isKept = (name: string): boolean => names === undefined ? !PROTOCOL_CLAIMS.has(name) : names.includes(name)
  const kept = Object.entries(claims).filter(([name]) => isKept(name))
  return { ...Object.fromEntries(kept), iss: claims.iss, sub: claims.sub }
}

/** The facts about a login that a session or grant keeps. */
export interface LoginDescription {
  scopes: string[]
  sid?: string
  authTime?: number
  acr?: string
}

export function describeLogin (claims: IdTokenClaims, scope: string): LoginDescription {
  return {
    scopes: scope.split(' ').filter(Boolean),
    ...(typeof claims.sid === 'string' && { sid: claims.sid }),
    ...(claims.auth_time !== undefined && { authTime: claims.auth_time }),
    ...(typeof claims.acr === 'string' && { acr: claims.acr })
  }
}
