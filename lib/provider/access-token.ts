import { OidcError } from '../errors.ts'
import type { BearerSettings } from '../options/bearer.ts'
import type { JWTPayload } from 'jose'
import type { KeySet } from './key-set.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { OidcClaims, OidcToken } from '../../types/claims.ts'

type Rules = Pick<BearerSettings, 'audience' | 'algorithms' | 'strictType'>

/** RFC 9068, section 2.2 */
const TEXTS = ['sub', 'client_id', 'jti']
const REQUIRED = [...TEXTS, 'iat', 'exp']

/** Every check of a JWT access token (RFC 9068, section 4; RFC 8725). Throws FST_OIDC_TOKEN. */
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
      requiredClaims: strictType ? REQUIRED : ['exp']
    })
    .catch(refuseToken)
  check(
    strictType ? isAccessToken(protectedHeader.typ) : looksLikeAccessToken(payload),
    'it does not say that it is an access token'
  )
  check(!strictType || TEXTS.every((name) => typeof payload[name] === 'string'), 'sub, client_id and jti must be text')
  return payload
}

/** What a library says of a token, as an error of the plugin. */
export function refuseToken (cause: unknown): never {
  if (cause instanceof OidcError) throw cause
  throw new OidcError('FST_OIDC_TOKEN', { cause, detail: String((cause as Error).message) })
}

export function isAccessToken (typ: unknown): boolean {
  return typeof typ === 'string' && ['at+jwt', 'application/at+jwt'].includes(typ.toLowerCase())
}

const OF_ID_TOKENS = ['nonce', 'at_hash', 'c_hash']
const OF_ACCESS_TOKENS = ['scope', 'scp', 'client_id', 'cid', 'appid', 'token_use', 'idtyp']

/**
 * For providers that do not mark their access tokens: an ID token of the same provider must not do (RFC 8725,
 * section 3.12).
 */
function looksLikeAccessToken (payload: JWTPayload): boolean {
  return !looksLikeAnother(payload) && OF_ACCESS_TOKENS.some((name) => name in payload)
}

/** Whether it may be an ID token, a logout token, or a refresh token. */
export function looksLikeAnother (payload: JWTPayload): boolean {
  return OF_ID_TOKENS.some((name) => name in payload) || 'events' in payload || saysOtherwise(payload)
}

/**
 * Whether a token says in a claim of a provider's own that it is no access token: of Ory and Amazon Cognito,
 * of Keycloak.
 */
export function saysOtherwise ({ token_use: use, typ }: Record<string, unknown>): boolean {
  return (
    !(use === undefined || use === 'access' || use === 'access_token') ||
    /^(?:refresh|offline|id|logout)$/i.test(String(typ))
  )
}

/** What an access token, or the answer to an introspection, says of itself. */
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

/** The claims of a token; a token of nobody has its client as `sub` (RFC 9068, section 2.2). */
export function claimsOf (claims: JWTPayload, issuer: string): OidcClaims {
  return { ...claims, iss: issuer, sub: claims.sub ?? clientOf(claims) ?? '' }
}

function clientOf (claims: JWTPayload): string | undefined {
  return ['client_id', 'azp', 'cid', 'appid'].map((name) => claims[name]).find((value) => typeof value === 'string') as
    string | undefined
}

/** Providers tell in different ways that a client acts on its own (security.md S72). */
function isClient (claims: JWTPayload, clientId: string | undefined): boolean {
  const { sub } = claims
  return (
    sub === undefined ||
    sub === clientId ||
    sub === `${clientId}@clients` || // Auth0
    claims['gty'] === 'client-credentials' || // Auth0
    claims['idtyp'] === 'app' ||
    (claims['oid'] === sub && claims['scp'] === undefined) || // Microsoft Entra ID: the latter where the former is not asked for
    (typeof clientId === 'string' && claims['preferred_username'] === `service-account-${clientId.toLowerCase()}`)
  ) // Keycloak
}

function scopesOf ({ scope, scp }: JWTPayload): string[] {
  const words = (value: unknown): string[] =>
    typeof value === 'string' ? value.split(' ') : Array.isArray(value) ? value : []
  return [...words(scope), ...words(scp)].filter((word) => typeof word === 'string' && word !== '')
}

function check (condition: boolean, detail: string): asserts condition {
  if (!condition) throw new OidcError('FST_OIDC_TOKEN', { detail })
}
