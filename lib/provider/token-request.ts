import * as client from 'openid-client'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { OidcError, checkWith } from '../errors.ts'
import { now } from '../util/time.ts'
import { attempt, passOn } from './client-errors.ts'
import { decryptIfConfigured } from './decrypt.ts'
import { ID_TOKEN } from './endpoint-response.ts'
import { readUnverified, verifyIdToken } from './id-token.ts'
import { resourceParams } from './resource-params.ts'
import type { Check } from '../errors.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { AuthorizationRequest } from './authorization-request.ts'
import type { Discovered } from './discovery.ts'
import type { IdTokenClaims, OidcTokens, UserinfoClaims } from '../../types/claims.ts'

/** The tokens from a login, a refresh or another grant, and the claims of the ID token when there is one. */
export interface TokenSet {
  tokens: OidcTokens
  claims: IdTokenClaims | undefined
  /** What UserInfo says with these tokens, where a refresh has asked it. */
  userinfo?: UserinfoClaims | undefined
}

/** The result of a refresh. The ID token is part of `tokens` only when it is right. */
export interface RefreshedTokenSet extends TokenSet {
  /** The ID token that came was issued to another client or for another user or login, or is forged. */
  refused?: OidcError
  /** Why the ID token that came was dropped: the keys for it cannot be fetched, or a clock is wrong. */
  dropped?: OidcError
}

/** Throws FST_OIDC_ID_TOKEN unless a refreshed ID token is of the login that the refresh is for. */
export type CheckLogin = (claims: IdTokenClaims) => void

const YEAR = 31_536_000 // in seconds
/** A tolerance with which every time is right, in seconds. */
const ANY_TIME = Number.MAX_SAFE_INTEGER

const check: Check = checkWith('FST_OIDC_PROVIDER_RESPONSE')

/** Exchanges the code of an authorization response for tokens (OpenID Connect Core 1.0, section 3.1.3). */
export async function exchangeCode (
  discovered: Discovered,
  request: Omit<AuthorizationRequest, 'scope'>,
  params: Record<string, string>
): Promise<TokenSet & { claims: IdTokenClaims }> {
  const { nonce, maxAge, acrValues, promptsLogin } = request
  const response = await attempt('FST_OIDC_CODE', async () => await client.authorizationCodeGrant(
    discovered.config,
    callbackUrl(request.redirectUri, params),
    { expectedState: request.state, pkceCodeVerifier: request.codeVerifier },
    resourceParams(request.resource)
  ), discovered.settings, 'authorization_code')
  const tokens = toTokens(response)
  const idToken = await readIdToken(response, discovered.settings)
  check(idToken !== undefined, 'the token response has no id_token')
  const expected = {
    issuer: discovered.metadata.issuer, nonce, maxAge, acrValues, promptsLogin, accessToken: tokens.access_token
  }
  const claims = await ofRightFormat(idToken, async () =>
    await verifyIdToken(idToken, discovered.keySet.ofLogins, discovered.settings, expected))
  return { tokens: { ...tokens, id_token: idToken }, claims }
}

/**
 * Gets new tokens for a refresh token. The result keeps that refresh token when the provider does not send another.
 * The old refresh token may be used up now: whatever is wrong with the ID token, the caller gets the new one.
 */
export async function refreshTokens (
  discovered: Discovered,
  refreshToken: string,
  resource: string[],
  checkLogin: CheckLogin
): Promise<RefreshedTokenSet> {
  const response = await attempt(
    'FST_OIDC_LOGIN_REQUIRED',
    async () => await client.refreshTokenGrant(discovered.config, refreshToken, resourceParams(resource)),
    discovered.settings,
    'refresh_token'
  )
  const tokens = { refresh_token: refreshToken, ...toTokens(response) }
  const idToken = response[ID_TOKEN]
  // A refresh may come without an ID token (OpenID Connect Core 1.0, section 12.2).
  if (idToken === undefined) return { tokens, claims: undefined }
  return await withIdToken(discovered, idToken, tokens, checkLogin)
}

async function withIdToken (
  discovered: Discovered,
  encoded: unknown,
  tokens: OidcTokens,
  checkLogin: CheckLogin
): Promise<RefreshedTokenSet> {
  const { settings, metadata: { issuer } } = discovered
  let isOfLogin = false
  try {
    const idToken = await decryptIfConfigured(String(encoded), settings, 'FST_OIDC_ID_TOKEN')
    const verify = async (clockTolerance: number): Promise<IdTokenClaims> => {
      const tolerant = { ...discovered, settings: { ...settings, clockTolerance } }
      return await verifyLaterIdToken(tolerant, idToken, tokens.access_token)
    }
    // First what needs no keys, then without the times: neither keys that cannot be fetched nor a wrong clock must
    // hide that the ID token is of another user.
    checkLogin(readUnverified(idToken, settings, issuer))
    await verify(ANY_TIME)
    isOfLogin = true
    return { tokens: { ...tokens, id_token: idToken }, claims: await verify(settings.clockTolerance) }
  } catch (cause) {
    const error = cause as OidcError
    const isRefused = !isOfLogin && error.code === 'FST_OIDC_ID_TOKEN'
    return { tokens, claims: undefined, ...(isRefused ? { refused: error } : { dropped: error }) }
  }
}

/** Sends a grant that an application brought. Throws FST_OIDC_GRANT with the error code of the provider. */
export async function sendGrant (
  discovered: Discovered,
  grantType: string,
  params: Record<string, string>,
  resource: string[] = []
): Promise<TokenSet> {
  const body = new URLSearchParams([...Object.entries(params), ...resourceParams(resource)])
  const response = await attempt(
    'FST_OIDC_LOGIN_REQUIRED',
    async () => await client.genericGrantRequest(discovered.config, grantType, body).catch(passOn),
    discovered.settings,
    grantType
  )
  const tokens = toTokens(response)
  const idToken = await readIdToken(response, discovered.settings)
  if (idToken === undefined) return { tokens, claims: undefined }
  const claims = await ofRightFormat(idToken, async () =>
    await verifyLaterIdToken(discovered, idToken, tokens.access_token))
  return { tokens: { ...tokens, id_token: idToken }, claims }
}

/** Verifies the ID token of a refresh or of another grant. No request has sent a nonce for it. */
async function verifyLaterIdToken (
  { keySet, settings, metadata }: Discovered,
  idToken: string,
  accessToken: string
): Promise<IdTokenClaims> {
  const expected = { issuer: metadata.issuer, nonce: undefined, accessToken }
  return await verifyIdToken(idToken, keySet.ofLogins, settings, expected)
}

function callbackUrl (redirectUri: string, params: Record<string, string>): URL {
  const url = new URL(redirectUri)
  url.search = new URLSearchParams(params).toString()
  return url
}

function toTokens (response: client.TokenEndpointResponse): OidcTokens {
  check(response.token_type === 'bearer', 'the token_type is not bearer')
  const { expires_in: lifetime } = response
  return {
    access_token: response.access_token,
    token_type: response.token_type,
    ...(lifetime !== undefined && { expires_at: now() + Math.min(Math.floor(lifetime), YEAR) }),
    ...(response.refresh_token !== undefined && { refresh_token: response.refresh_token }),
    ...(response.scope !== undefined && { scope: response.scope })
  }
}

/** The signed ID token in a response, if there is one. */
async function readIdToken (
  response: client.TokenEndpointResponse,
  settings: ProviderSettings
): Promise<string | undefined> {
  const encoded = response[ID_TOKEN]
  if (encoded === undefined) return undefined
  check(typeof encoded === 'string', 'the id_token in the token response is not a string')
  return await decryptIfConfigured(encoded, settings, 'FST_OIDC_ID_TOKEN')
}

/** Verifies a token. When that fails, the first reason to look for is that the text is no signed JWT. */
async function ofRightFormat<T> (idToken: string, verify: () => Promise<T>): Promise<T> {
  try {
    return await verify()
  } catch (error) {
    checkFormat(idToken)
    throw error
  }
}

/** Throws unless the text is a signed JWT. It verifies nothing. */
function checkFormat (idToken: string): void {
  try {
    decodeProtectedHeader(idToken)
    decodeJwt(idToken)
  } catch (cause) {
    throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { cause, detail: 'the id_token is not a signed JWT' })
  }
}
