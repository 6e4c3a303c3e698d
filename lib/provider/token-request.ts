import * as client from 'openid-client'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { OidcError, checkWith } from '../errors.ts'
import { now } from '../util/time.ts'
import { attempt, passOn } from './client-errors.ts'
import { ID_TOKEN } from './endpoint-response.ts'
import { verifyIdToken } from './id-token.ts'
import { resourceParams } from './resource-params.ts'
import type { Check } from '../errors.ts'
import type { AuthorizationRequest } from './authorization-request.ts'
import type { Discovered } from './discovery.ts'
import type { IdTokenClaims, OidcTokens } from '../../types/claims.ts'

/** The tokens from a login, a refresh or another grant, and the claims of the ID token when there is one. */
export interface TokenSet {
  tokens: OidcTokens
  claims: IdTokenClaims | undefined
}

const YEAR = 31_536_000 // in seconds

const check: Check = checkWith('FST_OIDC_PROVIDER_RESPONSE')

/** Exchanges the code of an authorization response for tokens (OpenID Connect Core 1.0, section 3.1.3). */
export async function exchangeCode (
  discovered: Discovered,
  request: Omit<AuthorizationRequest, 'scope'>,
  params: Record<string, string>
): Promise<TokenSet & { claims: IdTokenClaims }> {
  const { nonce, maxAge, acrValues } = request
  const response = await attempt('FST_OIDC_CODE', async () => await client.authorizationCodeGrant(
    discovered.config,
    callbackUrl(request.redirectUri, params),
    { expectedState: request.state, pkceCodeVerifier: request.codeVerifier },
    resourceParams(request.resource)
  ), discovered.settings, 'authorization_code')
  const tokens = toTokens(response)
  check(tokens.id_token !== undefined, 'the token response has no id_token')
  const claims = await verifyIdToken(tokens.id_token, discovered.keySet, discovered.settings, {
    issuer: discovered.metadata.issuer,
    nonce,
    maxAge,
    acrValues,
    accessToken: tokens.access_token
  })
  return { tokens, claims }
}

/** Gets new tokens for a refresh token. The result keeps that refresh token when the provider does not send another. */
export async function refreshTokens (
  discovered: Discovered,
  refreshToken: string,
  resource: string[]
): Promise<TokenSet> {
  const response = await attempt(
    'FST_OIDC_LOGIN_REQUIRED',
    async () => await client.refreshTokenGrant(discovered.config, refreshToken, resourceParams(resource)),
    discovered.settings,
    'refresh_token'
  )
  const { id_token: idToken, ...tokens } = toTokens(response)
  const claims = await verifyLaterIdToken(discovered, idToken, tokens.access_token).catch(ignoreOutage)
  return {
    tokens: {
      refresh_token: refreshToken,
      ...tokens,
      ...(idToken !== undefined && claims !== undefined && { id_token: idToken })
    },
    claims
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
  return { tokens, claims: await verifyLaterIdToken(discovered, tokens.id_token, tokens.access_token) }
}

/** Verifies the ID token of a refresh or of another grant, when there is one. No request has sent a nonce for it. */
async function verifyLaterIdToken (
  { keySet, settings, metadata }: Discovered,
  idToken: string | undefined,
  accessToken: string
): Promise<IdTokenClaims | undefined> {
  if (idToken === undefined) return undefined
  return await verifyIdToken(idToken, keySet, settings, { issuer: metadata.issuer, nonce: undefined, accessToken })
}

// A refresh may come without an ID token (OpenID Connect Core 1.0, section 12.2). When the keys to verify it are
// unavailable, only the ID token is dropped. Dropping the response would lose the new refresh token, and the provider
// may not accept the old one again.
function ignoreOutage (error: unknown): undefined {
  if (!(error instanceof OidcError) || error.code === 'FST_OIDC_ID_TOKEN') throw error
}

function callbackUrl (redirectUri: string, params: Record<string, string>): URL {
  const url = new URL(redirectUri)
  url.search = new URLSearchParams(params).toString()
  return url
}

function toTokens (response: client.TokenEndpointResponse): OidcTokens {
  check(response.token_type === 'bearer', 'the token_type is not bearer')
  const { expires_in: lifetime } = response
  const idToken = response[ID_TOKEN] as string | undefined
  if (idToken !== undefined) checkFormat(idToken)
  return {
    access_token: response.access_token,
    token_type: response.token_type,
    ...(lifetime !== undefined && { expires_at: now() + Math.min(Math.floor(lifetime), YEAR) }),
    ...(response.refresh_token !== undefined && { refresh_token: response.refresh_token }),
    ...(idToken !== undefined && { id_token: idToken }),
    ...(response.scope !== undefined && { scope: response.scope })
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
