import { DPOP_ALGORITHMS } from '../options/bearer.ts'
import { acceptsTokens } from './constraints.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { OidcError, OidcErrorCode } from '../errors.ts'
import type { Urls } from '../http/urls.ts'
import type { Bearer } from './bearer.ts'
import type { Constraints } from './constraints.ts'
import type { OidcToken } from '../../types/claims.ts'

/**
 * Tells the client in WWW-Authenticate which tokens are accepted, and what is wrong with its token
 * (RFC 6750, section 3; RFC 9449, section 7.1).
 */
export type Challenge = (
  constraints: Constraints,
  problem: OidcError,
  request: FastifyRequest,
  reply: FastifyReply
) => void

export interface ChallengeParts {
  bearer: Bearer | undefined
  urls: Pick<Urls, 'resourceMetadata'>
}

export function createChallenge ({ bearer, urls: { resourceMetadata } }: ChallengeParts): Challenge {
  return (constraints, problem, request, reply) => {
    if (bearer === undefined || !acceptsTokens(constraints)) return
    const isAboutToken = bearer.isPresented(request) && [400, 403].includes(problem.statusCode)
    if (problem.statusCode !== 401 && !isAboutToken) return
    const { dpop, dpopRequired } = bearer.settings
    const token = request.oidcToken ?? undefined
    const values = challengesOf(problem, { constraints, token, resourceMetadata, dpop, dpopRequired })
    reply.header('www-authenticate', values)
    if (problem.code === 'FST_OIDC_DPOP_NONCE') reply.header('dpop-nonce', bearer.dpopNonce())
  }
}

interface ChallengeContext {
  constraints: Pick<Constraints, 'scopes' | 'acr' | 'maxAge'>
  /** The token of the request, if it is valid but not sufficient. */
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
const PROOF_ERRORS = new Set<OidcErrorCode>(['FST_OIDC_DPOP', 'FST_OIDC_DPOP_NONCE'])

function challengesOf (error: OidcError, context: ChallengeContext): string[] {
  const params = paramsOf(error, context)
  const isAboutProof = PROOF_ERRORS.has(error.code)
  return [
    ...(context.dpopRequired || isAboutProof ? [] : [format('Bearer', params)]),
    ...(context.dpop ? [format('DPoP', { algs: DPOP_ALGORITHMS.join(' '), ...params })] : [])
  ]
}

function paramsOf (error: OidcError, context: ChallengeContext): Record<string, string | undefined> {
  const { constraints: { scopes, acr, maxAge }, token, resourceMetadata } = context
  const lacksScope = token !== undefined && error.code === 'FST_OIDC_FORBIDDEN' &&
    scopes.some((scope) => !token.scopes.includes(scope))
  const isStepUp = token !== undefined && error.code === 'FST_OIDC_AUTHENTICATION_TOO_OLD'
  const tokenError = isStepUp ? 'insufficient_user_authentication' : ERRORS[error.code]
  const name = lacksScope ? 'insufficient_scope' : tokenError
  return {
    error: name,
    error_description: name === undefined ? undefined : error.message,
    scope: scopes.length > 0 && (lacksScope || name === undefined) ? scopes.join(' ') : undefined,
    // RFC 9470, section 3
    acr_values: isStepUp && acr.length > 0 ? acr.join(' ') : undefined,
    max_age: isStepUp && maxAge !== undefined ? String(maxAge) : undefined,
    resource_metadata: resourceMetadata
  }
}

function format (scheme: string, params: Record<string, string | undefined>): string {
  const given = Object.entries(params).filter(([, value]) => value !== undefined)
  const pairs = given.map(([name, value]) => `${name}="${clean(value as string)}"`)
  return `${scheme} ${pairs.join(', ')}`.trimEnd()
}

// A quoted value must not contain quotes, or anything that ends the header.
function clean (value: string): string {
  return value.replace(/[^\x20-\x7e]|["\\]/g, '')
}
