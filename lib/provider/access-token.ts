import { checkWith } from '../errors.ts'
import { splitWords } from '../util/words.ts'
import { clientOf, namesAccessToken } from './token-subject.ts'
import { shown, verifyJwt } from './verify-jwt.ts'
import type { JWTPayload } from 'jose'
import type { Check } from '../errors.ts'
import type { BearerSettings } from '../options/bearer.ts'
import type { KeySet } from './key-set.ts'
import type { TokenSubject } from './token-subject.ts'
import type { OidcClaims, OidcToken } from '../../types/claims.ts'

type Rules = Pick<BearerSettings, 'audience' | 'algorithms' | 'strictType'>

const REFUSAL = {
  code: 'FST_OIDC_TOKEN',
  compared: { alg: '"bearer.algorithms"', iss: '"issuer" or "accessTokenIssuer"' }
} as const

/** What verifies the access tokens of one provider. */
export interface AccessTokenVerifier {
  keySet: Pick<KeySet, 'verify'>
  /** The names of the provider in access tokens. */
  issuers: string[]
  /** In seconds. */
  clockTolerance: number
}

// RFC 9068, section 2.2. Keycloak names the client in `azp`.
const TEXT_CLAIMS = ['sub', 'jti']
const REQUIRED_CLAIMS = [...TEXT_CLAIMS, 'iat', 'exp']

const check: Check = checkWith('FST_OIDC_TOKEN')

/**
 * Verifies a JWT access token and returns its claims (RFC 9068, section 4; RFC 8725). Throws FST_OIDC_TOKEN.
 */
export async function verifyAccessToken (
  token: string,
  { keySet, issuers, clockTolerance }: AccessTokenVerifier,
  rules: Rules
): Promise<JWTPayload> {
  const { algorithms, strictType } = rules
  const requiredClaims = strictType ? REQUIRED_CLAIMS : ['exp']
  const isForUs = (claims: JWTPayload): boolean => isForAudience(claims, rules)
  const expected = { issuer: issuers, algorithms, clockTolerance, requiredClaims, isForUs }
  const { payload, protectedHeader: { typ } } = await verifyJwt(token, keySet, expected, REFUSAL)
  checkAudience(payload, rules)
  check(!looksLikeOtherToken(payload, typ), 'a claim says that it is not an access token')
  if (strictType) checkStrictly(payload, typ)
  else check(looksLikeAccessToken(payload), 'it is not marked as an access token')
  return payload
}

function checkAudience (payload: JWTPayload, rules: Rules): void {
  const expected = rules.audience.join(', ')
  check(isForAudience(payload, rules), `aud was ${shown(audiencesOf(payload, rules))}, "bearer.audience" is ${expected}`)
}

/** Whether the audience of a token is this API. */
export function isForAudience (payload: JWTPayload, rules: Pick<Rules, 'audience' | 'strictType'>): boolean {
  return audiencesOf(payload, rules).some((value) => rules.audience.includes(value as string))
}

// The access tokens of Amazon Cognito have no `aud`: there, the client stands for the API.
function audiencesOf (
  { aud, token_use: use, client_id: clientId }: JWTPayload,
  { strictType }: Pick<Rules, 'strictType'>
): unknown[] {
  const audience: unknown = aud === undefined && !strictType && use === 'access' ? clientId : aud
  return [audience ?? []].flat()
}

function checkStrictly (payload: JWTPayload, typ: unknown): void {
  check(isAccessToken(typ), `it is not marked as an access token: typ was ${String(typ).slice(0, 50)}, not at+jwt`)
  const isText = TEXT_CLAIMS.every((name) => typeof payload[name] === 'string')
  const client = 'client_id' in payload ? payload['client_id'] : payload['azp']
  check(isText && typeof client === 'string', 'sub, jti, and client_id or azp must be strings')
}

/** Whether the `typ` in the header of a token says that it is an access token (RFC 9068, section 2.1). */
export function isAccessToken (typ: unknown): boolean {
  return typeof typ === 'string' && ['at+jwt', 'application/at+jwt'].includes(typ.toLowerCase())
}

const OTHER_TOKEN_CLAIMS = ['at_hash', 'c_hash', 'events']
const ACCESS_TOKEN_CLAIMS = ['scope', 'scp', 'client_id', 'cid', 'appid', 'token_use', 'idtyp', 'azpacr']

/**
 * Recognizes an access token by its claims, because some providers do not mark the type. An ID token of the same
 * provider must not pass for one (RFC 8725, section 3.12).
 */
export function looksLikeAccessToken (payload: JWTPayload): boolean {
  return namesAccessToken(payload) || ACCESS_TOKEN_CLAIMS.some((name) => name in payload)
}

/**
 * Whether the claims may be those of an ID token, a logout token or a refresh token. Only the issuer's own mark of an
 * access token, in the header or the claims, outweighs a `nonce`, which Keycloak puts into access tokens. Nothing
 * outweighs the other signs.
 */
export function looksLikeOtherToken (payload: JWTPayload, typ: unknown): boolean {
  const mayHaveNonce = isAccessToken(typ) || namesAccessToken(payload)
  return isOtherToken(payload) || ('nonce' in payload && !mayHaveNonce)
}

/** Whether a claim belongs to another type of token, or names one. */
export function isOtherToken (claims: Record<string, unknown>): boolean {
  return OTHER_TOKEN_CLAIMS.some((name) => name in claims) || namesOtherType(claims)
}

// Ory and Amazon Cognito use `token_use`, Keycloak uses `typ`.
function namesOtherType ({ token_use: use, typ }: Record<string, unknown>): boolean {
  return (use !== undefined && !isAccessUse(use)) || /^(?:refresh|offline|id|logout)$/i.test(String(typ))
}

/** Whether `token_use` says that a token is an access token. */
export function isAccessUse (use: unknown): boolean {
  return use === 'access' || use === 'access_token'
}

/** Describes an access token by its claims, which come from the token itself or from introspection. */
export function describeToken (
  provider: string,
  claims: JWTPayload,
  { subject, expiresAt }: { subject: TokenSubject, expiresAt: number }
): OidcToken {
  const clientId = clientOf(claims)
  return {
    provider,
    ...(clientId !== undefined && { clientId }),
    isClient: subject === 'client',
    scopes: scopesOf(claims),
    ...(typeof claims['sid'] === 'string' && { sid: claims['sid'] }),
    ...(typeof claims['auth_time'] === 'number' && { authTime: claims['auth_time'] }),
    ...(typeof claims['acr'] === 'string' && { acr: claims['acr'] }),
    expiresAt
  }
}

/** The claims of a token. A token without `sub` is of a client, which is then the `sub` (RFC 9068, section 2.2). */
export function claimsOf (claims: JWTPayload, issuer: string): OidcClaims {
  return { ...claims, iss: issuer, sub: claims.sub ?? clientOf(claims) as string }
}

function scopesOf ({ scope, scp }: JWTPayload): string[] {
  const words = [scope, scp].flatMap((value) => typeof value === 'string' ? splitWords(value) : value)
  return words.filter((word): word is string => typeof word === 'string' && word !== '')
}
