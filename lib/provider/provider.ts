import * as client from 'openid-client'
import { sha256 } from '../util/crypto.ts'
import { verifyAccessToken } from './access-token.ts'
import { authorizationUrl, checkResponseIssuer } from './authorization-request.ts'
import { attempt } from './client-errors.ts'
import { authorizeDevice } from './device-authorization.ts'
import { createDiscovery } from './discovery.ts'
import { introspect } from './introspection.ts'
import { verifyLogoutToken } from './logout-token.ts'
import { verifyOwnAccessToken } from './own-access-token.ts'
import { exchangeCode, refreshTokens, sendGrant } from './token-request.ts'
import { fetchUserinfo } from './userinfo-request.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { JWTPayload } from 'jose'
import type { OidcError } from '../errors.ts'
import type { BearerSettings } from '../options/bearer.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { MeasureRequest } from '../telemetry.ts'
import type { Cached } from '../util/cached.ts'
import type { AccessTokenVerifier } from './access-token.ts'
import type { AuthorizationRequest } from './authorization-request.ts'
import type { Connections } from './connections.ts'
import type { Discovered } from './discovery.ts'
import type { LogoutToken } from './logout-token.ts'
import type { TokenIssuer } from './token-issuer.ts'
import type { CheckLogin, RefreshedTokenSet, TokenSet } from './token-request.ts'
import type { IdTokenClaims, UserinfoClaims } from '../../types/claims.ts'
import type { ProviderHealth } from '../../types/fastify.ts'
import type { ProviderMetadata } from '../../types/options.ts'

/** One OpenID provider: one function for each request to it and each check. Every function throws an OidcError. */
export interface Provider extends TokenIssuer {
  /**
   * Identifies the provider and this client there. A login or session that another provider started under the same
   * name does not count for this one.
   */
  readonly id: string
  readonly settings: ProviderSettings
  /** Fetches the metadata unless it is known already. */
  discover: () => Promise<void>
  /** The `prompt` with which the user can choose another account: `login` where there is no `select_account`. */
  accountPrompt: () => Promise<string>
  /** `params` are the parameters from the options and from the caller. */
  authorizationUrl: (request: AuthorizationRequest, params: Record<string, string>) => Promise<URL>
  /** Throws FST_OIDC_RESPONSE_ISSUER unless the response comes from this provider (RFC 9207). */
  checkResponseIssuer: (iss: string | undefined) => Promise<void>
  /** `params` are the parameters of the authorization response. */
  exchangeCode: (
    request: Omit<AuthorizationRequest, 'scope'>,
    params: Record<string, string>
  ) => Promise<TokenSet & { claims: IdTokenClaims }>
  /** Throws FST_OIDC_LOGIN_REQUIRED when the provider refuses. */
  refresh: (refreshToken: string, resource: string[], checkLogin: CheckLogin) => Promise<RefreshedTokenSet>
  /** Sends a grant that an application brought. Throws FST_OIDC_GRANT with the error code of the provider. */
  grant: (grantType: string, params: Record<string, string>, resource?: string[]) => Promise<TokenSet>
  /** Starts a device flow (RFC 8628, section 3.1). Throws FST_OIDC_DEVICE when the provider does not support it. */
  authorizeDevice: (scope: string, codeVerifier: string) => Promise<client.DeviceAuthorizationResponse>
  /** Throws FST_OIDC_LOGIN_REQUIRED when the provider does not accept the access token. */
  userinfo: (accessToken: string, sub: string) => Promise<UserinfoClaims>
  /** The claims of the access token that this client got for a user. Throws FST_OIDC_TOKEN and FST_OIDC_FORBIDDEN. */
  verifyOwnAccessToken: (token: string, sub: string) => Promise<JWTPayload>
  /** Revokes a token (RFC 7009). Does nothing when the provider does not support it. */
  revoke: (token: string, tokenTypeHint: string) => Promise<void>
  /** The user or session that a logout token names. Throws FST_OIDC_LOGOUT_TOKEN. */
  verifyLogoutToken: (token: string) => Promise<LogoutToken>
  /** The `iss` of its access tokens, where it differs from the issuer and is known so far (AD FS, Entra ID v1). */
  accessTokenIssuer: () => string | undefined
  /** The claims of an access token that is not a JWT, by introspection (RFC 7662). Throws FST_OIDC_TOKEN. */
  introspect: (token: string, rules: BearerSettings) => Promise<JWTPayload>
  /**
   * The end-session endpoint with these parameters (OpenID Connect RP-Initiated Logout 1.0). `null` when the provider
   * does not have one.
   */
  endSessionUrl: (params: Record<string, string>) => Promise<URL | null>
  /** How old its keys are, in seconds. `undefined` when there are none yet. */
  keysAge: () => number | undefined
  /** Whether logins can work. Fetches metadata and keys that are not known or too old. */
  health: () => Promise<ProviderHealth>
}

export function createProvider (
  settings: ProviderSettings,
  log: FastifyBaseLogger,
  connections: Connections,
  measure?: MeasureRequest
): Provider {
  const discovery = createDiscovery(settings, log, connections, measure)

  /** The act as a function of the provider: discovery comes first. */
  function afterDiscovery<Args extends unknown[], Result> (
    act: (discovered: Discovered, ...args: Args) => Promise<Result>
  ): (...args: Args) => Promise<Result> {
    return async (...args) => await act(await discovery.get(), ...args)
  }

  function accessTokenIssuer (): string | undefined {
    const named = settings.accessTokenIssuer ?? discovery.last()?.metadata['access_token_issuer']
    return typeof named === 'string' ? named : undefined
  }

  function accessTokenVerifier (keySet: AccessTokenVerifier['keySet']): AccessTokenVerifier {
    const { issuer, clockTolerance } = settings
    return { keySet, issuers: [issuer, accessTokenIssuer() ?? issuer], clockTolerance }
  }

  return {
    name: settings.name,
    id: sha256(JSON.stringify([settings.name, settings.issuer, settings.clientId])).slice(0, 16),
    settings,
    discover: afterDiscovery(async () => {}),
    accountPrompt: afterDiscovery(async ({ metadata }) => accountPromptOf(metadata)),
    authorizationUrl: afterDiscovery(authorizationUrl),
    checkResponseIssuer: afterDiscovery(checkResponseIssuer),
    exchangeCode: afterDiscovery(exchangeCode),
    refresh: afterDiscovery(refreshTokens),
    grant: afterDiscovery(sendGrant),
    authorizeDevice: afterDiscovery(authorizeDevice),
    userinfo: afterDiscovery(fetchUserinfo),
    revoke: afterDiscovery(revoke),
    verifyLogoutToken: afterDiscovery(async ({ keySet: { ofLogouts } }, token) =>
      await verifyLogoutToken(token, ofLogouts, settings)
    ),
    verifyAccessToken: afterDiscovery(async ({ keySet }, token, rules) =>
      await verifyAccessToken(token, accessTokenVerifier(keySet), rules)
    ),
    // This token comes from the provider, at a login or a refresh.
    verifyOwnAccessToken: afterDiscovery(async ({ keySet: { ofLogins } }, token, sub) =>
      await verifyOwnAccessToken(token, accessTokenVerifier(ofLogins), { clientId: settings.clientId, sub })
    ),
    accessTokenIssuer,
    introspect: afterDiscovery(introspect),
    // The metadata may be too old here. The keys are not: their time is shorter, and every fetch of keys looks at the
    // age of the metadata first.
    keys: () => discovery.last()?.keySet.known(),
    keysAge: () => discovery.last()?.keySet.age(),
    endSessionUrl: afterDiscovery(endSessionUrl),
    health: async () => await healthOf(discovery)
  }
}

// Each provider knows `login`. One that does not know `select_account` answers with an error.
function accountPromptOf ({ prompt_values_supported: prompts }: ProviderMetadata): string {
  return Array.isArray(prompts) && prompts.includes('select_account') ? 'select_account' : 'login'
}

async function revoke (discovered: Discovered, token: string, tokenTypeHint: string): Promise<void> {
  const { config, metadata, settings } = discovered
  if (metadata.revocation_endpoint === undefined) return
  await attempt(
    'FST_OIDC_PROVIDER_RESPONSE',
    async () => await client.tokenRevocation(config, token, { token_type_hint: tokenTypeHint }),
    settings
  )
}

async function endSessionUrl ({ config, metadata }: Discovered, params: Record<string, string>): Promise<URL | null> {
  return metadata.end_session_endpoint === undefined ? null : client.buildEndSessionUrl(config, params)
}

async function healthOf (discovery: Cached<Discovered>): Promise<ProviderHealth> {
  try {
    const { keySet } = await discovery.latest()
    const isFresh = await keySet.load() && discovery.fresh() !== undefined
    return { status: isFresh ? 'ok' : 'stale' }
  } catch (error) {
    return { status: 'unavailable', code: (error as OidcError).code }
  }
}
