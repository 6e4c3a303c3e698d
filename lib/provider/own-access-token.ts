import { decodeProtectedHeader } from 'jose'
import { checkWith } from '../errors.ts'
import { SIGNING_ALGS } from '../options/provider.ts'
import { isAccessToken, looksLikeAccessToken, looksLikeOtherToken } from './access-token.ts'
import { subjectOf } from './token-subject.ts'
import { verifyJwt } from './verify-jwt.ts'
import type { JWTPayload } from 'jose'
import type { Check } from '../errors.ts'
import type { AccessTokenVerifier } from './access-token.ts'

const check: Check = checkWith('FST_OIDC_TOKEN')

const REFUSAL = {
  code: 'FST_OIDC_TOKEN',
  compared: { alg: 'what can be verified', iss: '"issuer" or "accessTokenIssuer"' }
} as const

/**
 * Verifies the access token that this client got for a user, and returns its claims. The token is meant for an API,
 * so its audience does not matter: what counts is that the provider issued it to this client, for this user. Throws
 * FST_OIDC_TOKEN, or FST_OIDC_FORBIDDEN when it is not of a user.
 */
export async function verifyOwnAccessToken (
  token: string,
  { keySet, issuers, clockTolerance }: AccessTokenVerifier,
  { clientId, sub }: { clientId: string, sub: string }
): Promise<JWTPayload> {
  checkFormat(token)
  const rules = { issuer: issuers, algorithms: SIGNING_ALGS, clockTolerance, requiredClaims: ['sub', 'exp'] }
  const { payload, protectedHeader: { typ } } = await verifyJwt(token, keySet, rules, REFUSAL)
  check(isAccessToken(typ) || isUntyped(typ), `typ in its header is ${String(typ).slice(0, 50)}`)
  check(!looksLikeOtherToken(payload, typ), 'a claim says that it is not an access token')
  check(isAccessToken(typ) || looksLikeAccessToken(payload), 'no claim says that it is an access token')
  check(payload.sub === sub, 'its sub is not that of the ID token')
  const clients = ['azp', 'client_id'].filter((name) => name in payload).map((name) => payload[name])
  check(clients.length > 0, 'it has neither azp nor client_id')
  check(clients.every((client) => client === clientId), 'azp or client_id is another client')
  check(subjectOf(payload, OF_USER) === 'user', 'it is of a client, not of a user')
  return payload
}

const OF_USER = { clients: [], knownClients: [], isIntrospected: false }

// A JWS has three parts, a JWE five.
function checkFormat (token: string): void {
  const parts = token.split('.').length
  check(parts !== 5, 'it is encrypted')
  check(parts === 3 && hasHeader(token), 'it is not a JWT')
}

function hasHeader (token: string): boolean {
  try {
    return typeof decodeProtectedHeader(token).alg === 'string'
  } catch {
    return false
  }
}

// Not all providers mark the type (RFC 9068, section 2.1).
function isUntyped (typ: unknown): boolean {
  return typ === undefined || (typeof typ === 'string' && typ.toLowerCase() === 'jwt')
}
