import { DPOP_ALGORITHMS } from './dpop.ts'
import type { Constraints } from './constraints.ts'
import type { OidcError, OidcErrorCode } from '../errors.ts'
import type { OidcToken } from '../../types/claims.ts'

export interface ChallengeContext {
  constraints: Pick<Constraints, 'scopes' | 'acr' | 'maxAge'>
  /** The token that was good, but not good enough. */
  token: OidcToken | undefined
  /** The address of the metadata of the protected resource (RFC 9728). */
  resourceMetadata: string
  dpop: boolean
  dpopRequired: boolean
}

const ERRORS: Partial<Record<OidcErrorCode, string>> = {
  FST_OIDC_TOKEN: 'invalid_token',
  FST_OIDC_AUTHORIZATION: 'invalid_request',
  FST_OIDC_DPOP: 'invalid_dpop_proof',
  FST_OIDC_DPOP_NONCE: 'use_dpop_nonce'
}
const OF_PROOFS = new Set<OidcErrorCode>(['FST_OIDC_DPOP', 'FST_OIDC_DPOP_NONCE'])

/**
 * What the caller of an API is told of what it takes: the values of WWW-Authenticate (RFC 6750, section 3;
 * RFC 9449, section 7.1).
 */
export function challengesOf (error: OidcError, context: ChallengeContext): string[] {
  const params = paramsOf(error, context)
  const ofProof = OF_PROOFS.has(error.code)
  return [
    ...(context.dpopRequired || ofProof ? [] : [format('Bearer', params)]),
    ...(context.dpop ? [format('DPoP', { algs: DPOP_ALGORITHMS, ...params })] : [])
  ]
}

function paramsOf (
  error: OidcError,
  { constraints, token, resourceMetadata }: ChallengeContext
): Record<string, string | undefined> {
  const { scopes, acr, maxAge } = constraints
  const isWeak =
    token !== undefined && error.code === 'FST_OIDC_FORBIDDEN' && scopes.some((scope) => !token.scopes.includes(scope))
  const isStepUp = token !== undefined && error.code === 'FST_OIDC_AUTHENTICATION_TOO_OLD'
  const name = isWeak ? 'insufficient_scope' : isStepUp ? 'insufficient_user_authentication' : ERRORS[error.code]
  return {
    error: name,
    error_description: name === undefined ? undefined : error.message,
    scope: scopes.length > 0 && (isWeak || name === undefined) ? scopes.join(' ') : undefined,
    // RFC 9470, section 3
    acr_values: isStepUp && acr.length > 0 ? acr.join(' ') : undefined,
    max_age: isStepUp && maxAge !== undefined ? String(maxAge) : undefined,
    resource_metadata: resourceMetadata
  }
}

function format (scheme: string, params: Record<string, string | undefined>): string {
  const pairs = Object.entries(params)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}="${clean(value as string)}"`)
  return `${scheme} ${pairs.join(', ')}`.trimEnd()
}

// What stands in quotes has none of its own, and nothing that ends the header.
function clean (value: string): string {
  return value.replace(/[^\x20-\x7e]|["\\]/g, '')
}
