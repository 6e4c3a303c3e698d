import { OidcError, checkWith } from '../errors.ts'
import { headerValues } from '../http/headers.ts'
import type { FastifyRequest } from 'fastify'
import type { Check } from '../errors.ts'

/** The access token in the Authorization header of a request (RFC 6750, section 2.1; RFC 9449, section 7.1). */
export interface PresentedToken {
  scheme: 'bearer' | 'dpop'
  token: string
}

const BEARER = 'Bearer '
/** In characters. */
const MAX_TOKEN = 16_384

const check: Check = checkWith('FST_OIDC_TOKEN')

/** Whether the request has an access token, valid or not. */
export function presentsToken ({ headers: { authorization } }: FastifyRequest): boolean {
  if (authorization === undefined) return false
  return authorization.startsWith(BEARER) || /^(?:bearer|dpop)(?: |$)/i.test(authorization)
}

/** Throws FST_OIDC_AUTHORIZATION unless the request has exactly one access token (RFC 6750, section 2). */
export function tokenOf (request: FastifyRequest): PresentedToken {
  // Several spaces are legal (RFC 9110, section 11.4).
  const [, scheme, token] = /^(bearer|dpop) +([\w.~+/-]+=*)$/i.exec(String(request.headers.authorization)) ?? []
  const isSingle = scheme !== undefined && token !== undefined && !isRepeated(request) && !isInForm(request)
  if (!isSingle) throw new OidcError('FST_OIDC_AUTHORIZATION')
  check(token.length <= MAX_TOKEN, 'it is too long')
  return { scheme: scheme.toLowerCase() as PresentedToken['scheme'], token }
}

/** The text after `Bearer `, if it is the only token. It may be invalid: it serves to find a verified token again. */
export function plainTokenOf (request: FastifyRequest): string | undefined {
  const { authorization = '' } = request.headers
  const isPlain = authorization.startsWith(BEARER) && !isRepeated(request) && !isInForm(request)
  return isPlain ? authorization.slice(BEARER.length) : undefined
}

function isRepeated (request: FastifyRequest): boolean {
  return headerValues(request, 'authorization').length > 1
}

function isInForm ({ headers: { 'content-type': type }, body }: FastifyRequest): boolean {
  const isForm = type !== undefined && /^\s*application\/x-www-form-urlencoded\b/i.test(type)
  return isForm && typeof body === 'object' && body !== null && 'access_token' in body
}
