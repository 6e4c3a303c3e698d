import { randomBytes } from 'node:crypto'
import type { AuthorizationRequest } from '../provider/authorization-request.ts'
import type { OidcSession } from '../../types/claims.ts'

/** A login that has begun and waits for its callback. */
export interface PendingLogin extends Omit<AuthorizationRequest, 'redirectUri' | 'resource' | 'scope'> {
  /** The `id` of the provider. */
  provider: string
  returnTo: string
  /** Replaces the resources of the provider's options. */
  resource?: string[] | undefined
  /** The login of a native application, which gets no session here. */
  native?: NativeLogin | undefined
  /** Whether the provider must not ask the user anything (`prompt=none`): then `login_required` is not an error. */
  silent: boolean
  /** Whether the login began because an earlier callback came too late. It does not begin a third time. */
  restarted: boolean
  /** The session that the browser had, for a callback that comes without its cookies. */
  before?: OidcSession | undefined
  startedAt: number
}

/** The login of an application on the user's own machine (RFC 8252). It gets an authorization code of the broker. */
export interface NativeLogin {
  redirectUri: string
  codeChallenge: string
  state?: string | undefined
  clientId?: string | undefined
  scope?: string | undefined
}

/** What the plugin keeps of a used login. A repeated callback continues to `returnTo`, or starts the login again. */
export type LoginTrace = Pick<PendingLogin,
  'state' | 'provider' | 'returnTo' | 'silent' | 'restarted' | 'maxAge' | 'acrValues' | 'resource' | 'native'>

/** The length of the time at the start of a state, in milliseconds and base 36: enough until the year 115,000. */
const TIME_LENGTH = 10

/** New values for a login, each with 128 random bits or more (RFC 9700, section 2.1). */
export function newLogin (): Pick<PendingLogin, 'state' | 'nonce' | 'codeVerifier' | 'startedAt'> {
  const random = randomBytes(64)
  const token = (start: number, end: number): string => random.subarray(start, end).toString('base64url')
  const state = Date.now().toString(36).padStart(TIME_LENGTH, '0') + token(0, 16)
  return { state, nonce: token(16, 32), codeVerifier: token(32, 64), startedAt: startOf(state) }
}

/** The time when the login with this state began, in seconds since the epoch. */
export function startOf (state: string): number {
  return Math.floor(parseInt(state.slice(0, TIME_LENGTH), 36) / 1000)
}

/**
 * The content of the login cookie. It is short because a browser that restores many tabs starts a login in each,
 * before the plugin sees any of the cookies and can remove some. Addresses are relative to the origin.
 */
export interface PackedLogin {
  s: string
  p: string
  r: string
  q?: 1
  x?: 1
  m?: number
  a?: string[]
  o?: string[]
  n?: NativeLogin
  login?: [nonce: string, codeVerifier: string, before?: OidcSession]
}

export function packLogin (login: PendingLogin | LoginTrace, origin: string): PackedLogin {
  const { state, provider, returnTo, silent, restarted, maxAge, acrValues, resource, native } = login
  return {
    s: state,
    p: provider,
    r: returnTo.slice(origin.length),
    ...(silent && { q: 1 }),
    ...(restarted && { x: 1 }),
    ...(maxAge !== undefined && { m: maxAge }),
    ...(acrValues !== undefined && { a: acrValues }),
    ...(resource !== undefined && { o: resource }),
    ...(native !== undefined && { n: native }),
    ...('nonce' in login && { login: secretsOf(login) })
  }
}

function secretsOf ({ nonce, codeVerifier, before }: PendingLogin): NonNullable<PackedLogin['login']> {
  return before === undefined ? [nonce, codeVerifier] : [nonce, codeVerifier, before]
}

export function unpackLogin (packed: PackedLogin, origin: string): PendingLogin | LoginTrace {
  const { s: state, p: provider, r, q, x, m: maxAge, a: acrValues, o: resource, n: native, login } = packed
  const trace = {
    state,
    provider,
    returnTo: origin + r,
    silent: q === 1,
    restarted: x === 1,
    maxAge,
    acrValues,
    resource,
    native
  }
  if (login === undefined) return trace
  const [nonce, codeVerifier, before] = login
  return { ...trace, nonce, codeVerifier, before, startedAt: startOf(state) }
}

export function traceOf (login: PendingLogin | LoginTrace): LoginTrace {
  const { state, provider, returnTo, silent, restarted, maxAge, acrValues, resource, native } = login
  return { state, provider, returnTo, silent, restarted, maxAge, acrValues, resource, native }
}
