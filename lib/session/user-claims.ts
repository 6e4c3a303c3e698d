import { decodeJwt } from 'jose'
import { reasonOf } from '../errors.ts'
import { callHook } from '../http/run-hook.ts'
import { mergeClaims, withoutRoles } from '../provider/claim-sources.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { OidcError } from '../errors.ts'
import type { Settings } from '../options/settings.ts'
import type { Answers, SourcedClaims, SourceRules } from '../provider/claim-sources.ts'
import type { Provider } from '../provider/provider.ts'
import type { TokenSet } from '../provider/token-request.ts'
import type { Telemetry } from '../telemetry.ts'
import type { IdTokenClaims, OidcClaims, OidcTokens, UserinfoClaims } from '../../types/claims.ts'

/** The claims of a user, from the sources that the options name. Each function throws an OidcError. */
export interface UserClaims {
  /** The claims of a login: `all`, and those that the application keeps. */
  read: (provider: Provider, tokenSet: TokenSet & { claims: IdTokenClaims }) => Promise<LoginClaims>
  /** The claims after a refresh. Throws FST_OIDC_CLAIMS when `parseClaims` refuses them. */
  renew: (provider: Provider, before: KnownClaims, fresh: TokenSet) => Promise<SourcedClaims>
  /**
   * For a session. Without `rolesFrom`, its claims stay those of the login. When `parseClaims` refuses the new claims,
   * those from before stay without the roles.
   */
  renewOrKeep: (provider: Provider, before: KnownClaims, fresh: TokenSet) => Promise<SourcedClaims>
  /** From UserInfo after a refresh, where "rolesFrom" names it. `undefined` when it does not, or UserInfo fails. */
  renewedUserinfo: (
    provider: Provider,
    tokens: OidcTokens,
    user: { sub: string }
  ) => Promise<UserinfoClaims | undefined>
  /** From UserInfo alone. */
  userinfo: (provider: Provider, tokens: OidcTokens, user: { sub: string }) => Promise<UserinfoClaims>
}

export interface LoginClaims {
  all: IdTokenClaims
  kept: SourcedClaims
}

/** What is known from before a refresh. */
export interface KnownClaims extends SourcedClaims {
  /** The last ID token, where it is kept. */
  idToken: string | undefined
}

export interface UserClaimsParts {
  settings: Pick<Settings, 'claims' | 'parseClaims' | 'roleClaims'>
  log: FastifyBaseLogger
  telemetry: Telemetry
}

export function createUserClaims ({ settings, log, telemetry }: UserClaimsParts): UserClaims {
  const { claims: names, parseClaims, roleClaims } = settings

  const userinfo: UserClaims['userinfo'] = async (provider, { access_token: accessToken }, { sub }) =>
    await telemetry.span('oidc.userinfo', { 'oidc.provider': provider.name }, async () =>
      await provider.userinfo(accessToken, sub))

  function rulesOf ({ settings }: Provider, isKept: (name: string) => boolean): SourceRules {
    return { provider: settings, roleClaims, isKept }
  }

  /** The claims of the access token. A token that proves nothing has none; `undefined` when there are no keys. */
  async function accessTokenClaims (
    provider: Provider,
    { access_token: token }: OidcTokens,
    sub: string
  ): Promise<object | undefined> {
    if (provider.settings.rolesFrom?.includes('access_token') !== true) return undefined
    try {
      return await provider.verifyOwnAccessToken(token, sub)
    } catch (error) {
      const { code } = error as OidcError
      log.warn(reasonOf(error as OidcError), 'no roles can be taken from the access token, as "rolesFrom" demands')
      return NOT_OUTAGES.has(code) ? {} : undefined
    }
  }

  async function parse (claims: IdTokenClaims, call: NonNullable<Settings['parseClaims']>): Promise<OidcClaims> {
    const parsed = await callHook('parseClaims', async () => await call(claims))
    return { ...parsed, iss: claims.iss, sub: claims.sub }
  }

  async function keep (provider: Provider, before: SourcedClaims, answers: Answers): Promise<SourcedClaims> {
    if (parseClaims === undefined) return mergeClaims(before, answers, rulesOf(provider, keptOf(names)))
    const merged = mergeClaims(before, answers, rulesOf(provider, keepsAll))
    return { ...merged, claims: await parse(merged.claims as IdTokenClaims, parseClaims) }
  }

  const renew: UserClaims['renew'] = async (provider, { idToken, ...before }, { tokens, claims, userinfo }) => {
    const { sub } = before.claims
    const answers = { id_token: claims, userinfo, access_token: await accessTokenClaims(provider, tokens, sub) }
    if (Object.values(answers).every((answer) => answer === undefined)) return before
    if (parseClaims === undefined || idToken === undefined) return await keep(provider, before, answers)
    // What `parseClaims` has left out or renamed is in the ID token only.
    const { claims: first } = mergeClaims(before, { id_token: decodeJwt(idToken) }, rulesOf(provider, keepsAll))
    return await keep(provider, { ...before, claims: { ...before.claims, ...first } }, answers)
  }

  return {
    userinfo,
    renew,

    async renewedUserinfo (provider, tokens, user) {
      if (provider.settings.rolesFrom?.includes('userinfo') !== true) return undefined
      return await userinfo(provider, tokens, user).catch((error: OidcError) => {
        log.warn(reasonOf(error), 'UserInfo could not be asked after a refresh: its claims stay as they were')
        return undefined
      })
    },

    async read (provider, { tokens, claims: idToken }) {
      const { iss, sub } = idToken
      const answers: Answers = {
        id_token: idToken,
        userinfo: asksUserinfo(provider) ? await userinfo(provider, tokens, idToken) : undefined,
        access_token: await accessTokenClaims(provider, tokens, sub)
      }
      const nothing = { claims: { iss, sub } }
      const { claims: all } = mergeClaims(nothing, answers, rulesOf(provider, keepsAll))
      return { all: all as IdTokenClaims, kept: await keep(provider, nothing, answers) }
    },

    async renewOrKeep (provider, before, fresh) {
      if (provider.settings.rolesFrom === undefined) return before
      try {
        return await renew(provider, before, fresh)
      } catch (error) {
        log.warn(
          reasonOf(error as OidcError),
          'the claims after a refresh are refused: the session keeps those before, without roles'
        )
        return { ...before, claims: withoutRoles(before.claims, rulesOf(provider, keepsAll)) }
      }
    }
  }
}

/** The access token itself is wrong, and not the connection to the provider. */
const NOT_OUTAGES: ReadonlySet<string> = new Set(['FST_OIDC_TOKEN', 'FST_OIDC_FORBIDDEN'])

/** Whether a login asks UserInfo. */
export function asksUserinfo ({ settings: { userinfo, rolesFrom } }: Provider): boolean {
  return userinfo || rolesFrom?.includes('userinfo') === true
}

// These claims describe the token, not the user.
const PROTOCOL_CLAIMS: ReadonlySet<string> = new Set([
  'aud', 'azp', 'exp', 'iat', 'nbf', 'jti', 'nonce', 'at_hash', 'c_hash', 's_hash', 'sid', 'auth_time'
])

/** The claims with these names, by default all but those of the protocol. */
function keptOf (names: readonly string[] | undefined): (name: string) => boolean {
  return (name) => names === undefined ? !PROTOCOL_CLAIMS.has(name) : names.includes(name)
}

function keepsAll (): boolean {
  return true
}
