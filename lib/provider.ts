import { createHash } from 'node:crypto'
import * as client from 'openid-client'
import { createCached } from './cached.ts'
import { OidcError, findOidcError } from './errors.ts'
import { verifyIdToken } from './id-token.ts'
import { createKeySet } from './key-set.ts'
import { isSafeEndpoint } from './options.ts'
import { now } from './time.ts'
import { isJson } from './transport.ts'
import type { KeySet } from './key-set.ts'
import type { ProviderSettings } from './options.ts'
import type { OidcErrorCode } from './errors.ts'
import type { IdTokenClaims, OidcTokens, UserinfoClaims } from '../types/claims.ts'
import type { Fetch, ProviderMetadata } from '../types/options.ts'

/** What a login must remember until its callback. */
export interface AuthorizationRequest {
  state: string
  nonce: string
  codeVerifier: string
  redirectUri: string
  maxAge?: number | undefined
  acrValues?: string[] | undefined
}

/** The tokens of a login or a refresh, with the claims of the ID token when there is one. */
export interface TokenSet {
  tokens: OidcTokens
  claims: IdTokenClaims | undefined
}

/** One OpenID Provider: a function per protocol act. Each throws an OidcError. */
export interface Provider {
  readonly name: string
  readonly settings: ProviderSettings
  /** Fetches the metadata, when it is not there yet. */
  discover: () => Promise<void>
  /** `params` are those of the options and of the caller. */
  authorizationUrl: (request: AuthorizationRequest, params: Record<string, string>) => Promise<URL>
  /** Throws unless the response comes from this provider (RFC 9207). */
  checkResponseIssuer: (iss: string | undefined) => Promise<void>
  exchangeCode: (request: AuthorizationRequest, response: Record<string, string>) => Promise<TokenSet & { claims: IdTokenClaims }>
  refresh: (refreshToken: string) => Promise<TokenSet>
  userinfo: (accessToken: string, sub: string) => Promise<UserinfoClaims>
  /** Revokes a token (RFC 7009) where the provider can. */
  revoke: (token: string, tokenTypeHint: string) => Promise<void>
  /** The end-session endpoint with its parameters (OpenID Connect RP-Initiated Logout 1.0), or `null` where there is none. */
  endSessionUrl: (params: Record<string, string>) => Promise<URL | null>
}

interface Discovered {
  config: client.Configuration
  metadata: ProviderMetadata
  keySet: KeySet
}

const HOUR = 3_600_000
const YEAR = 31_536_000 // in seconds
const ENDPOINTS = [
  'authorization_endpoint', 'token_endpoint', 'jwks_uri', 'userinfo_endpoint', 'end_session_endpoint', 'revocation_endpoint'
]
const REQUIRED = new Set(['authorization_endpoint', 'token_endpoint', 'jwks_uri'])

export function createProvider (settings: ProviderSettings, transport: Fetch): Provider {
  const keySetOf = createKeySets(transport)
  const load = async (): Promise<Discovered> => setUp(settings, await loadMetadata(settings, transport), transport, keySetOf)
  const discovered = createCached(async () => await attempt('FST_OIDC_PROVIDER_RESPONSE', load), {
    maxAge: HOUR, maxStale: 24 * HOUR, retryAfter: 1000
  })
  return {
    name: settings.name,
    settings,

    async discover () {
      await discovered.get()
    },

    async authorizationUrl (request, params) {
      const { config } = await discovered.get()
      const url = client.buildAuthorizationUrl(config, authorizationParams(settings, request, params))
      for (const resource of settings.resource) url.searchParams.append('resource', resource)
      return url
    },

    async checkResponseIssuer (iss) {
      const { metadata } = await discovered.get()
      const expected = iss === undefined ? metadata.authorization_response_iss_parameter_supported !== true : iss === metadata.issuer
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
        resourceParams(settings)
      ))
      const claims = await verifyIdToken(answer.id_token as string, keySet, settings, {
        ...request, issuer: metadata.issuer, accessToken: answer.access_token
      })
      return { tokens: toTokens(answer), claims }
    },

    async refresh (refreshToken) {
      const { config, metadata, keySet } = await discovered.get()
      const answer = await attempt('FST_OIDC_LOGIN_REQUIRED', async () => await client.refreshTokenGrant(config, refreshToken, resourceParams(settings)))
      const { id_token: idToken, ...tokens } = toTokens(answer)
      const claims = idToken === undefined
        ? undefined
        : await verifyIdToken(idToken, keySet, settings, { issuer: metadata.issuer, nonce: undefined, accessToken: tokens.access_token }).catch(unlessKeysAreAway)
      return { tokens: { refresh_token: refreshToken, ...tokens, ...(idToken !== undefined && claims !== undefined && { id_token: idToken }) }, claims }
    },

    async userinfo (accessToken, sub) {
      const { config, metadata } = await discovered.get()
      if (metadata.userinfo_endpoint === undefined) throw new OidcError('FST_OIDC_USERINFO', { detail: 'the provider has no UserInfo endpoint' })
      const url = new URL(metadata.userinfo_endpoint)
      const response = await attempt('FST_OIDC_USERINFO', async () => await client.fetchProtectedResource(config, accessToken, url, 'GET', undefined, new Headers({ accept: 'application/json' })))
      return await readUserinfo(response, sub)
    },

    async revoke (token, tokenTypeHint) {
      const { config, metadata } = await discovered.get()
      if (metadata.revocation_endpoint === undefined) return
      await attempt('FST_OIDC_PROVIDER_RESPONSE', async () => await client.tokenRevocation(config, token, { token_type_hint: tokenTypeHint }))
    },

    async endSessionUrl (params) {
      const { config, metadata } = await discovered.get()
      return metadata.end_session_endpoint === undefined ? null : client.buildEndSessionUrl(config, params)
    }
  }
}

// A refresh need not bring an ID token (OpenID Connect Core 1.0, section 12.2). One that cannot be checked for the moment is
// dropped rather than the new refresh token with it: the old one is used up.
function unlessKeysAreAway (error: unknown): undefined {
  if (!(error instanceof OidcError) || error.code === 'FST_OIDC_ID_TOKEN') throw error
}

async function loadMetadata (settings: ProviderSettings, transport: Fetch): Promise<unknown> {
  if (settings.metadata !== undefined) return settings.metadata
  const response = await transport(settings.discoveryUrl, { headers: { accept: 'application/json' } })
  if (response.status !== 200 || !isJson(response)) {
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { detail: `discovery: status ${response.status}, ${response.headers.get('content-type')}` })
  }
  return await response.json().catch((cause: unknown) => {
    throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { cause, detail: 'discovery: not JSON' })
  })
}

function setUp (settings: ProviderSettings, document: unknown, transport: Fetch, keySetOf: (jwksUri: string) => KeySet): Discovered {
  const metadata = checkMetadata(settings, document)
  const config = new client.Configuration(metadata as client.ServerMetadata, settings.clientId, {
    id_token_signed_response_alg: settings.idTokenSigningAlg,
    [client.clockTolerance]: settings.clockTolerance,
    ...(settings.clientSecret !== undefined && { client_secret: settings.clientSecret })
  }, clientAuthentication(settings))
  config[client.customFetch] = jsonTokens(new URL(metadata.token_endpoint).href, transport) as client.CustomFetch
  config.timeout = 0 // the transport has its own
  if (settings.allowInsecureLoopback) client.allowInsecureRequests(config)
  return { config, metadata, keySet: keySetOf(metadata.jwks_uri) }
}

// openid-client reads a token response as JSON whatever it says to be (RFC 6749, section 5.1).
function jsonTokens (tokenEndpoint: string, transport: Fetch): Fetch {
  return async (url, init) => {
    const response = await transport(url, init)
    check(url !== tokenEndpoint || response.status !== 200 || isJson(response), 'the token response is not JSON')
    return response
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
  check(typeof document === 'object' && document !== null && !Array.isArray(document), 'the metadata is not a JSON object')
  const metadata = { ...document, ...(settings.jwksUri !== undefined && { jwks_uri: settings.jwksUri }) } as ProviderMetadata
  check(metadata.issuer === settings.issuer, `the issuer in the metadata is ${String(metadata.issuer).slice(0, 200)}, not ${settings.issuer}`)
  for (const name of ENDPOINTS) checkEndpoint(name, metadata[name], settings.allowInsecureLoopback)
  return metadata
}

function checkEndpoint (name: string, value: unknown, allowInsecureLoopback: boolean): void {
  if (value === undefined && !REQUIRED.has(name)) return
  check(typeof value === 'string' && URL.canParse(value), `${name} in the metadata is not a URL`)
  check(isSafeEndpoint(new URL(value), allowInsecureLoopback), `${name} in the metadata is not an https URL without credentials or fragment`)
}

function check (condition: boolean, detail: string): asserts condition {
  if (!condition) throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { detail })
}

function clientAuthentication ({ clientAuth, clientSecret }: ProviderSettings): client.ClientAuth {
  const methods = {
    client_secret_basic: client.ClientSecretBasic,
    client_secret_post: client.ClientSecretPost,
    client_secret_jwt: client.ClientSecretJwt,
    none: client.None
  }
  return methods[clientAuth](clientSecret)
}

function authorizationParams (settings: ProviderSettings, request: AuthorizationRequest, params: Record<string, string>): Record<string, string> {
  return {
    ...params,
    ...(request.maxAge !== undefined && { max_age: String(request.maxAge) }),
    ...(request.acrValues !== undefined && { acr_values: request.acrValues.join(' ') }),
    ...(settings.responseMode === 'form_post' && { response_mode: 'form_post' }),
    redirect_uri: request.redirectUri,
    scope: settings.scope,
    state: request.state,
    nonce: request.nonce,
    code_challenge: createHash('sha256').update(request.codeVerifier).digest('base64url'), // RFC 7636, section 4.2
    code_challenge_method: 'S256'
  }
}

// RFC 8707, section 2.2
function resourceParams ({ resource }: ProviderSettings): URLSearchParams {
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

/** OpenID Connect Core 1.0, section 5.3.2: another `sub` makes the whole answer worthless. */
async function readUserinfo (response: Response, sub: string): Promise<UserinfoClaims> {
  const claims: unknown = response.status === 200 && isJson(response) ? await response.json().catch(() => undefined) : undefined
  if (typeof claims !== 'object' || claims === null || !('sub' in claims) || claims.sub !== sub) {
    throw new OidcError('FST_OIDC_USERINFO', { detail: `status ${response.status}, ${response.headers.get('content-type')}, or a body without the sub of the ID token` })
  }
  return claims as UserinfoClaims
}

/** Runs a call of openid-client and gives its error a code: `refused` when the provider said no to what it was given. */
async function attempt<T> (refused: OidcErrorCode, call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (cause) {
    throw findOidcError(cause) ?? new OidcError(codeOf(cause, refused), { cause, detail: describe(cause) })
  }
}

function codeOf (cause: unknown, refused: OidcErrorCode): OidcErrorCode {
  const grant = cause instanceof client.ResponseBodyError && ['invalid_grant', 'invalid_target', 'access_denied'].includes(cause.error)
  if (grant || isRefusedAccess(cause, refused)) return refused
  return isTokenProblem(cause) ? 'FST_OIDC_ID_TOKEN' : 'FST_OIDC_PROVIDER_RESPONSE'
}

// A challenge of UserInfo is about the access token; one of the token endpoint says that this client is not known there.
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
  return String((cause as Error).message)
}
