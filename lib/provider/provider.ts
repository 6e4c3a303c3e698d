import { hash } from 'node:crypto'
import * as client from 'openid-client'
import { verifyAccessToken } from './access-token.ts'
import { oauthError } from './oauth-error.ts'
import { createCached } from '../util/cached.ts'
import { OidcError, findOidcError } from '../errors.ts'
import { verifyIdToken } from './id-token.ts'
import { createKeySet } from './key-set.ts'
import { isSafeEndpoint } from '../util/url.ts'
import { isRecord } from '../util/json.ts'
import { createClientAuthentication } from './client-authentication.ts'
import { decryptIdToken } from './decrypt.ts'
import { readIntrospection } from './introspection.ts'
import { verifyLogoutToken } from './logout-token.ts'
import { now } from '../util/time.ts'
import { createTransport, isJson } from './transport.ts'
import { readUserinfo, userinfoType } from './userinfo-response.ts'
import type { JWTPayload } from 'jose'
import type { BearerSettings } from '../options/bearer.ts'
import type { KeySet } from './key-set.ts'
import type { LogoutToken } from './logout-token.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { OidcErrorCode } from '../errors.ts'
import type { IdTokenClaims, OidcTokens, UserinfoClaims } from '../../types/claims.ts'
import type { ProviderHealth } from '../../types/fastify.ts'
import type { Fetch, ProviderMetadata } from '../../types/options.ts'

/** What a login must remember until its callback. */
export interface AuthorizationRequest {
  state: string
  nonce: string
  codeVerifier: string
  redirectUri: string
  maxAge?: number | undefined
  acrValues?: string[] | undefined
  scope: string
  /** Resource indicators (RFC 8707), the same at both endpoints. */
  resource: string[]
}

/** The tokens of a login or a refresh, with the claims of the ID token when there is one. */
export interface TokenSet {
  tokens: OidcTokens
  claims: IdTokenClaims | undefined
}

/** One OpenID Provider: a function per protocol act. Each throws an OidcError. */
export interface Provider {
  readonly name: string
  /**
   * The provider and the client there: another one under the same name is none for whom a login or session of
   * this one counts.
   */
  readonly id: string
  readonly settings: ProviderSettings
  /** Fetches the metadata, when it is not there yet. */
  discover: () => Promise<void>
  /** `params` are those of the options and of the caller. */
  authorizationUrl: (request: AuthorizationRequest, params: Record<string, string>) => Promise<URL>
  /** Throws unless the response comes from this provider (RFC 9207). */
  checkResponseIssuer: (iss: string | undefined) => Promise<void>
  exchangeCode: (
    request: Omit<AuthorizationRequest, 'scope'>,
    response: Record<string, string>
  ) => Promise<TokenSet & { claims: IdTokenClaims }>
  refresh: (refreshToken: string, resource: string[]) => Promise<TokenSet>
  /** Sends a grant as somebody else brings it. Throws FST_OIDC_GRANT with the provider's error. */
  grant: (grantType: string, params: Record<string, string>, resource?: string[]) => Promise<TokenSet>
  /** Begins a device flow (RFC 8628, section 3.1). Throws FST_OIDC_DEVICE where the provider has none. */
  authorizeDevice: (scope: string) => Promise<client.DeviceAuthorizationResponse>
  userinfo: (accessToken: string, sub: string) => Promise<UserinfoClaims>
  /** Revokes a token (RFC 7009) where the provider can. */
  revoke: (token: string, tokenTypeHint: string) => Promise<void>
  /** Whom a logout token names. Throws FST_OIDC_LOGOUT_TOKEN. */
  verifyLogoutToken: (token: string) => Promise<LogoutToken>
  /** The claims of a JWT access token. Throws FST_OIDC_TOKEN. */
  verifyAccessToken: (token: string, rules: BearerSettings) => Promise<JWTPayload>
  /** The claims of another one, by asking (RFC 7662). Throws FST_OIDC_TOKEN. */
  introspect: (token: string, rules: BearerSettings) => Promise<JWTPayload>
  /** What signatures are verified with, as long as that needs no asking. */
  keys: () => unknown
  /**
   * The end-session endpoint with its parameters (OpenID Connect RP-Initiated Logout 1.0), or `null` where
   * there is none.
   */
  endSessionUrl: (params: Record<string, string>) => Promise<URL | null>
  /** Whether people can log in by what is known of the provider, which is fetched when it is not known or too old. */
  health: () => Promise<ProviderHealth>
}

interface Discovered {
  config: client.Configuration
  metadata: ProviderMetadata
  keySet: KeySet
}

const HOUR = 3_600_000
const YEAR = 31_536_000 // in seconds
const ENDPOINTS = [
  'authorization_endpoint', 'token_endpoint', 'jwks_uri', 'userinfo_endpoint', 'end_session_endpoint',
  'revocation_endpoint', 'pushed_authorization_request_endpoint', 'introspection_endpoint',
  'device_authorization_endpoint'
]
const REQUIRED = new Set(['authorization_endpoint', 'token_endpoint', 'jwks_uri'])

export function createProvider (settings: ProviderSettings): Provider {
  const transport = createTransport(settings)
  const keySetOf = createKeySets(transport)
  const load = async (): Promise<Discovered> =>
    setUp(settings, await loadMetadata(settings, transport), transport, keySetOf)
  const discovered = createCached(async () => await attempt('FST_OIDC_PROVIDER_RESPONSE', load), {
    maxAge: HOUR, maxStale: 24 * HOUR, retryAfter: 1000
  })
  return {
    name: settings.name,
    id: hash('sha256', JSON.stringify([settings.name, settings.issuer, settings.clientId]), 'base64url').slice(0, 16),
    settings,

    async discover () {
      await discovered.get()
    },

    async authorizationUrl (request, params) {
      const { config, metadata } = await discovered.get()
      const query = new URLSearchParams([
        ...Object.entries(authorizationParams(settings, request, params)),
        ...resourceParams(request.resource)
      ])
      const pushed = settings.pushedAuthorizationRequests || metadata.require_pushed_authorization_requests === true
      if (!pushed) return client.buildAuthorizationUrl(config, query)
      return await attempt(
        'FST_OIDC_PROVIDER_RESPONSE',
        async () => await client.buildAuthorizationUrlWithPAR(config, query)
      )
    },

    async checkResponseIssuer (iss) {
      const { metadata } = await discovered.get()
      const expected =
        iss === undefined ? metadata.authorization_response_iss_parameter_supported !== true : iss === metadata.issuer
      if (!expected) throw new OidcError('FST_OIDC_RESPONSE_ISSUER')
    },

    async exchangeCode (request, response) {
      const { config, metadata, keySet } = await discovered.get()
      const answer = await attempt('FST_OIDC_CODE', async () => await client.authorizationCodeGrant(
        config,
        withParams(request.redirectUri, response),
        {
          expectedState: request.state,
          expectedNonce: request.nonce,
          pkceCodeVerifier: request.codeVerifier,
          idTokenExpected: true,
          ...(request.maxAge !== undefined && { maxAge: request.maxAge })
        },
        resourceParams(request.resource)
      ))
      const { nonce, maxAge, acrValues } = request
      const claims = await verifyIdToken(answer.id_token as string, keySet, settings, {
        issuer: metadata.issuer,
        nonce,
        maxAge,
        acrValues,
        accessToken: answer.access_token
      })
      return { tokens: toTokens(answer), claims }
    },

    async refresh (refreshToken, resource) {
      const { config, metadata, keySet } = await discovered.get()
      const answer = await attempt(
        'FST_OIDC_LOGIN_REQUIRED',
        async () => await client.refreshTokenGrant(config, refreshToken, resourceParams(resource))
      )
      const { id_token: idToken, ...tokens } = toTokens(answer)
      const claims =
        idToken === undefined
          ? undefined
          : await verifyIdToken(idToken, keySet, settings, {
            issuer: metadata.issuer,
            nonce: undefined,
            accessToken: tokens.access_token
          }).catch(unlessKeysAreAway)
      return {
        tokens: {
          refresh_token: refreshToken,
          ...tokens,
          ...(idToken !== undefined && claims !== undefined && { id_token: idToken })
        },
        claims
      }
    },

    async grant (grantType, params, resource = []) {
      const { config, metadata, keySet } = await discovered.get()
      const answer = await attempt(
        'FST_OIDC_LOGIN_REQUIRED',
        async () =>
          await client
            .genericGrantRequest(
              config,
              grantType,
              new URLSearchParams([...Object.entries(params), ...resourceParams(resource)])
            )
            .catch(passOn)
      )
      const tokens = toTokens(answer)
      const claims =
        tokens.id_token === undefined
          ? undefined
          : await verifyIdToken(tokens.id_token, keySet, settings, {
            issuer: metadata.issuer,
            nonce: undefined,
            accessToken: tokens.access_token
          })
      return { tokens, claims }
    },

    async authorizeDevice (scope) {
      const { config, metadata } = await discovered.get()
      if (metadata['device_authorization_endpoint'] === undefined) throw new OidcError('FST_OIDC_DEVICE')
      const answer = await attempt(
        'FST_OIDC_PROVIDER_RESPONSE',
        async () => await client.initiateDeviceAuthorization(config, deviceParams(settings, scope))
      )
      for (const name of ['verification_uri', 'verification_uri_complete'] as const) {
        checkEndpoint(name, answer[name], settings.allowInsecureLoopback, name === 'verification_uri')
      }
      return answer
    },

    async userinfo (accessToken, sub) {
      const { config, metadata, keySet } = await discovered.get()
      const endpoint = endpointOf(metadata, settings, 'userinfo_endpoint')
      if (endpoint === undefined) {
        throw new OidcError('FST_OIDC_USERINFO', { detail: 'the provider has no UserInfo endpoint' })
      }
      const url = new URL(endpoint)
      const response = await attempt(
        'FST_OIDC_USERINFO',
        async () =>
          await client.fetchProtectedResource(
            config,
            accessToken,
            url,
            'GET',
            undefined,
            new Headers({ accept: userinfoType(settings) })
          )
      )
      return await readUserinfo(response, sub, keySet, settings)
    },

    async revoke (token, tokenTypeHint) {
      const { config, metadata } = await discovered.get()
      if (metadata.revocation_endpoint === undefined) return
      await attempt(
        'FST_OIDC_PROVIDER_RESPONSE',
        async () => await client.tokenRevocation(config, token, { token_type_hint: tokenTypeHint })
      )
    },

    async verifyLogoutToken (token) {
      const { keySet } = await discovered.get()
      return await verifyLogoutToken(token, keySet, settings)
    },

    async verifyAccessToken (token, rules) {
      const { keySet } = await discovered.get()
      return await verifyAccessToken(token, keySet, settings, rules)
    },

    async introspect (token, rules) {
      const { config, metadata } = await discovered.get()
      check(metadata.introspection_endpoint !== undefined, 'the provider has no introspection endpoint')
      const answer = await attempt(
        'FST_OIDC_PROVIDER_RESPONSE',
        async () => await client.tokenIntrospection(config, token, { token_type_hint: 'access_token' })
      )
      return readIntrospection(answer, settings, rules)
    },

    // These are the younger ones: whoever fetches them anew has looked at the metadata before.
    keys: () => discovered.last()?.keySet.known(),

    async endSessionUrl (params) {
      const { config, metadata } = await discovered.get()
      return metadata.end_session_endpoint === undefined ? null : client.buildEndSessionUrl(config, params)
    },

    async health () {
      try {
        const { keySet } = await discovered.get()
        const isFresh = await keySet.load() && discovered.fresh() !== undefined
        return { status: isFresh ? 'ok' : 'stale' }
      } catch (error) {
        return { status: 'unavailable', code: (error as OidcError).code }
      }
    }
  }
}

// A refresh need not bring an ID token (OpenID Connect Core 1.0, section 12.2). One that cannot be checked
// for the moment is
// dropped rather than the new refresh token with it: the old one is used up.
function unlessKeysAreAway (error: unknown): undefined {
  if (!(error instanceof OidcError) || error.code === 'FST_OIDC_ID_TOKEN') throw error
}

async function loadMetadata (settings: ProviderSettings, transport: Fetch): Promise<unknown> {
  if (settings.metadata !== undefined) return settings.metadata
  const response = await transport(settings.discoveryUrl, { headers: { accept: 'application/json' } })
  if (response.status !== 200 || !isJson(response)) {
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', {
      detail: `discovery: status ${response.status}, ${response.headers.get('content-type')}`
    })
  }
  return await response.json().catch((cause: unknown) => {
    throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { cause, detail: 'discovery: not JSON' })
  })
}

function setUp (
  settings: ProviderSettings,
  document: unknown,
  transport: Fetch,
  keySetOf: (jwksUri: string) => KeySet
): Discovered {
  const metadata = checkMetadata(settings, document)
  const config = new client.Configuration(metadata as client.ServerMetadata, settings.clientId, {
    id_token_signed_response_alg: settings.idTokenSigningAlg,
    [client.clockTolerance]: settings.clockTolerance,
    use_mtls_endpoint_aliases: usesAliases(settings)
  }, createClientAuthentication(settings))
  const tokenEndpoint = endpointOf(metadata, settings, 'token_endpoint') as string
  config[client.customFetch] = readTokens(new URL(tokenEndpoint).href, transport, settings) as client.CustomFetch
  config.timeout = 0 // the transport has its own
  if (settings.allowInsecureLoopback) client.allowInsecureRequests(config)
  return { config, metadata, keySet: keySetOf(metadata.jwks_uri) }
}

// openid-client reads a token response as JSON whatever it says to be (RFC 6749, section 5.1).
function readTokens (tokenEndpoint: string, transport: Fetch, settings: ProviderSettings): Fetch {
  return async (url, init) => {
    const response = await transport(url, init)
    if (url !== tokenEndpoint) return response
    check(response.status !== 200 || isJson(response), 'the token response is not JSON')
    return await decryptIdToken(response, settings)
  }
}

/** The same key set as long as its address is the same: metadata that is fetched again does not forget the keys. */
function createKeySets (transport: Fetch): (jwksUri: string) => KeySet {
  let known: { jwksUri: string, keySet: KeySet } | undefined
  return (jwksUri) => {
    if (known?.jwksUri !== jwksUri) known = { jwksUri, keySet: createKeySet(jwksUri, transport) }
    return known.keySet
  }
}

/** OpenID Connect Discovery 1.0, section 4.3, and endpoints that a request may be sent to. */
function checkMetadata (settings: ProviderSettings, document: unknown): ProviderMetadata {
  check(isRecord(document), 'the metadata is not a JSON object')
  const metadata = {
    ...document,
    ...(settings.jwksUri !== undefined && { jwks_uri: settings.jwksUri })
  } as ProviderMetadata
  check(
    metadata.issuer === settings.issuer,
    `the issuer in the metadata is ${String(metadata.issuer).slice(0, 200)}, not ${settings.issuer}`
  )
  const aliases = metadata.mtls_endpoint_aliases ?? {}
  check(isRecord(aliases), 'mtls_endpoint_aliases in the metadata is not an object')
  for (const name of ENDPOINTS) {
    checkEndpoint(name, metadata[name], settings.allowInsecureLoopback, REQUIRED.has(name))
    checkEndpoint(name, aliases[name], settings.allowInsecureLoopback, false)
  }
  return metadata
}

/** RFC 8705, section 5: who shows a certificate may have to do so elsewhere. */
function endpointOf (
  metadata: ProviderMetadata,
  settings: ProviderSettings,
  name: 'token_endpoint' | 'userinfo_endpoint'
): string | undefined {
  return (usesAliases(settings) ? metadata.mtls_endpoint_aliases?.[name] : undefined) ?? metadata[name]
}

function usesAliases ({ clientAuth }: ProviderSettings): boolean {
  return clientAuth === 'tls_client_auth'
}

function checkEndpoint (name: string, value: unknown, allowInsecureLoopback: boolean, required: boolean): void {
  if (value === undefined && !required) return
  check(typeof value === 'string' && URL.canParse(value), `${name} in the metadata is not a URL`)
  check(
    isSafeEndpoint(new URL(value), allowInsecureLoopback),
    `${name} in the metadata is not an https URL without credentials or fragment`
  )
}

function check (condition: boolean, detail: string): asserts condition {
  if (!condition) throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { detail })
}

function authorizationParams (
  settings: ProviderSettings,
  request: AuthorizationRequest,
  params: Record<string, string>
): Record<string, string> {
  return {
    ...params,
    ...(request.maxAge !== undefined && { max_age: String(request.maxAge) }),
    ...(request.acrValues !== undefined && { acr_values: request.acrValues.join(' ') }),
    ...(settings.responseMode === 'form_post' && { response_mode: 'form_post' }),
    redirect_uri: request.redirectUri,
    scope: request.scope,
    state: request.state,
    nonce: request.nonce,
    code_challenge: hash('sha256', request.codeVerifier, 'base64url'), // RFC 7636, section 4.2
    code_challenge_method: 'S256'
  }
}

// RFC 8707, section 2.2
function deviceParams (
  { authorizationParams: { audience }, resource }: ProviderSettings,
  scope: string
): URLSearchParams {
  const params = resourceParams(resource)
  params.set('scope', scope)
  if (audience !== undefined) params.set('audience', audience)
  return params
}

function resourceParams (resource: string[]): URLSearchParams {
  return new URLSearchParams(resource.map((value): [string, string] => ['resource', value]))
}

function withParams (redirectUri: string, params: Record<string, string>): URL {
  const url = new URL(redirectUri)
  url.search = new URLSearchParams(params).toString()
  return url
}

function toTokens (answer: client.TokenEndpointResponse): OidcTokens {
  check(answer.token_type === 'bearer', 'the token_type is not bearer')
  return {
    access_token: answer.access_token,
    token_type: answer.token_type,
    ...(answer.expires_in !== undefined && { expires_at: now() + Math.min(Math.floor(answer.expires_in), YEAR) }),
    ...(answer.refresh_token !== undefined && { refresh_token: answer.refresh_token }),
    ...(answer.id_token !== undefined && { id_token: answer.id_token }),
    ...(answer.scope !== undefined && { scope: answer.scope })
  }
}

const PASSED_ON = [
  'invalid_grant', 'invalid_scope', 'invalid_target', 'authorization_pending', 'slow_down', 'expired_token',
  'access_denied'
] as const

/** What the provider says of a grant that somebody else brought is for them. */
function passOn (cause: unknown): never {
  const error = PASSED_ON.find((code) => cause instanceof client.ResponseBodyError && cause.error === code)
  if (error === undefined) throw cause
  throw oauthError(error, 'The identity provider said so.', cause)
}

/**
 * Runs a call of openid-client and gives its error a code: `refused` when the provider said no to what it was
 * given.
 */
async function attempt<T> (refused: OidcErrorCode, call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (cause) {
    throw findOidcError(cause) ?? new OidcError(codeOf(cause, refused), { cause, detail: describe(cause) })
  }
}

function codeOf (cause: unknown, refused: OidcErrorCode): OidcErrorCode {
  const grant =
    cause instanceof client.ResponseBodyError &&
    ['invalid_grant', 'invalid_target', 'access_denied'].includes(cause.error)
  if (grant || isRefusedAccess(cause, refused)) return refused
  return isTokenProblem(cause) ? 'FST_OIDC_ID_TOKEN' : 'FST_OIDC_PROVIDER_RESPONSE'
}

// A challenge of UserInfo is about the access token; one of the token endpoint says that this client is not
// known there.
function isRefusedAccess (cause: unknown, refused: OidcErrorCode): boolean {
  return refused === 'FST_OIDC_USERINFO' && cause instanceof client.WWWAuthenticateChallengeError
}

// openid-client puts the claims or the header into the cause of an error about an ID token.
function isTokenProblem (cause: unknown): boolean {
  for (let depth = 0; depth < 4 && typeof cause === 'object' && cause !== null; depth++) {
    if ('claims' in cause || 'header' in cause) return true
    cause = (cause as { cause?: unknown }).cause
  }
  return false
}

// An error of OAuth is short text from the provider; whatever else the cause holds may be a token.
function describe (cause: unknown): string {
  if (cause instanceof client.ResponseBodyError) return `the provider answered ${cause.status} ${cause.error}`
  if (cause instanceof client.WWWAuthenticateChallengeError) {
    return `the provider answered ${cause.status} ${String(cause.cause[0]?.parameters.error)}`
  }
  return String((cause as Error).message)
}
