import { asOidcError, checkWith } from '../errors.ts'
import type { JWTPayload } from 'jose'
import type { Check } from '../errors.ts'
import type { BearerSettings } from '../options/bearer.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { KeySet } from './key-set.ts'
import type { OidcClaims, OidcToken } from '../../types/claims.ts'

type Rules = Pick<BearerSettings, 'audience' | 'algorithms' | 'strictType'>

// RFC 9068, section 2.2
const TEXT_CLAIMS = ['sub', 'client_id', 'jti']
const REQUIRED_CLAIMS = [...TEXT_CLAIMS, 'iat', 'exp']

const check: Check = checkWith('FST_OIDC_TOKEN')

/** Verifies a JWT access token and returns its claims (RFC 9068, section 4; RFC 8725). Throws FST_OIDC_TOKEN. */
export async function verifyAccessToken (
  token: string,
  keySet: KeySet,
  { issuer, clockTolerance }: ProviderSettings,
  { audience, algorithms, strictType }: Rules
): Promise<JWTPayload> {
  const { payload, protectedHeader } = await keySet
    .verify(token, {
      issuer,
      audience,
      algorithms,
      clockTolerance,
      requiredClaims: strictType ? REQUIRED_CLAIMS : ['exp']
    })
    .catch(asOidcError('FST_OIDC_TOKEN'))
  check(
    strictType ? isAccessToken(protectedHeader.typ) : looksLikeAccessToken(payload),
    'it is not marked as an access token'
  )
  check(
    !strictType || TEXT_CLAIMS.every((name) => typeof payload[name] === 'string'),
    'sub, client_id and jti must be strings'
  )
  return payload
}

/** Whether the `typ` in the header of a token says that it is an access token (RFC 9068, section 2.1). */
export function isAccessToken (typ: unknown): boolean {
  return typeof typ === 'string' && ['at+jwt', 'application/at+jwt'].includes(typ.toLowerCase())
}

const ID_TOKEN_CLAIMS = ['nonce', 'at_hash', 'c_hash']
const ACCESS_TOKEN_CLAIMS = ['scope', 'scp', 'client_id', 'cid', 'appid', 'token_use', 'idtyp']

/**
 * Recognizes an access token by its claims, because some providers do not mark the type. An ID token of the same
 * provider must not pass for one (RFC 8725, section 3.12).
 */
function looksLikeAccessToken (payload: JWTPayload): boolean {
  return !looksLikeOtherToken(payload) && ACCESS_TOKEN_CLAIMS.some((name) => name in payload)
}

/** Whether the claims may be those of an ID token, a logout token or a refresh token. */
export function looksLikeOtherToken (payload: JWTPayload): boolean {
  return ID_TOKEN_CLAIMS.some((name) => name in payload) || 'events' in payload || namesOtherType(payload)
}

/** Whether a claim names another type of token. Ory and Amazon Cognito use `token_use`, Keycloak uses `typ`. */
export function namesOtherType ({ token_use: use, typ }: Record<string, unknown>): boolean {
  const isOtherUse = use !== undefined && use !== 'access' && use !== 'access_token'
  return isOtherUse || /^(?:refresh|offline|id|logout)$/i.test(String(typ))
}

/** Describes an access token by its claims, which come from the token itself or from introspection. */
export function describeToken (provider: string, claims: JWTPayload, expiresAt: number): OidcToken {
  const clientId = clientOf(claims)
  return {
    provider,
    ...(clientId !== undefined && { clientId }),
    isClient: isClient(claims, clientId),
    scopes: scopesOf(claims),
    ...(typeof claims['sid'] === 'string' && { sid: claims['sid'] }),
    ...(typeof claims['auth_time'] === 'number' && { authTime: claims['auth_time'] }),
    ...(typeof claims['acr'] === 'string' && { acr: claims['acr'] }),
    expiresAt
  }
}

/** The claims of a token. Without a user, the client is the `sub` (RFC 9068, section 2.2). */
export function claimsOf (claims: JWTPayload, issuer: string): OidcClaims {
  return { ...claims, iss: issuer, sub: claims.sub ?? clientOf(claims) ?? '' }
}

function clientOf (claims: JWTPayload): string | undefined {
  const values = ['client_id', 'azp', 'cid', 'appid'].map((name) => claims[name])
  return values.find((value) => typeof value === 'string')
}

/** Whether the client acts for itself, without a user. Providers say this in different ways (security.md S72). */
function isClient (claims: JWTPayload, clientId: string | undefined): boolean {
  const { sub } = claims
  return (
    sub === undefined ||
    sub === clientId ||
    sub === `${clientId}@clients` || // Auth0
    claims['gty'] === 'client-credentials' || // Auth0
    claims['idtyp'] === 'app' || // Microsoft Entra ID, where this optional claim is configured
    (claims['oid'] === sub && claims['scp'] === undefined) || // Microsoft Entra ID, where it is not
    isServiceAccount(claims, clientId)
  )
}

// Keycloak
function isServiceAccount (claims: JWTPayload, clientId: string | undefined): boolean {
  return clientId !== undefined && claims['preferred_username'] === `service-account-${clientId.toLowerCase()}`
}

function scopesOf ({ scope, scp }: JWTPayload): string[] {
  const words = [scope, scp].flatMap((value) => typeof value === 'string' ? value.split(' ') : value)
  return words.filter((word): word is string => typeof word === 'string' && word !== '')
}
