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
  /** Whether a guard began the login. It does not begin the same login again right after this one. */
  guarded?: boolean | undefined
  /** The session that the browser had, for a callback that comes without its cookies. */
  before?: OidcSession | undefined
  /** What the application gave to the login, for `onClaims`. */
  appState?: AppState | undefined
  startedAt: number
}

/** Any JSON value, also `null`. */
export interface AppState {
  value: unknown
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
  'state' | 'provider' | 'returnTo' | 'silent' | 'restarted' | 'guarded' | 'promptsLogin' | 'maxAge' | 'acrValues' |
  'resource' | 'native' | 'appState'>

/** How long a login may take, in seconds. */
export const LIFETIME = 600
/** The length of the time at the start of an identifier, in milliseconds and base 36: enough until the year 115,000. */
const TIME_LENGTH = 10
/** The length of the part of an identifier that the logins of a browser share, in characters: 48 random bits. */
const BROWSER_LENGTH = 8
/** The length of the identifier at the start of a state: the time, that part, and 84 random bits. */
export const ID_LENGTH = 32

/** A new identifier of a login, in the browser of another one. */
export function newLoginId (other?: string): string {
  const browser = other === undefined ? '' : browserOf(other)
  const random = randomBytes(16).toString('base64url').slice(browser.length)
  return Date.now().toString(36).padStart(TIME_LENGTH, '0') + browser + random
}

/** The identifier at the start of a state. */
export function idOf (state: string): string {
  return state.slice(0, ID_LENGTH)
}

/** Whether two logins have begun in the same browser, for identifiers of which one comes from its cookies. */
export function areOfOneBrowser (id: string, other: string): boolean {
  return browserOf(id) === browserOf(other)
}

function browserOf (id: string): string {
  return id.slice(TIME_LENGTH, TIME_LENGTH + BROWSER_LENGTH)
}

/** The time when the login with this state or identifier began, in seconds since the epoch. */
export function startOf (id: string): number {
  return Math.floor(parseInt(id.slice(0, TIME_LENGTH), 36) / 1000)
}

/** A trace as it is sealed. It is short because it is a part of the `state`. Addresses are relative to the origin. */
export interface PackedTrace {
  /** The identifier. */
  s: string
  p: string
  r: string
  q?: 1
  x?: 1
  g?: 1
  l?: 1
  m?: number
  a?: string[]
  o?: string[]
  n?: NativeLogin
  d?: unknown
}

/** What is sealed in the `state`, after the identifier. */
export interface PackedState extends PackedTrace {
  /** The slot of the login's cookie. */
  c: string
  b?: OidcSession
}

export function packTrace (login: LoginTrace, origin: string): PackedTrace {
  const { state, provider, returnTo, silent, restarted, guarded, promptsLogin } = login
  const { maxAge, acrValues, resource, native, appState } = login
  return {
    s: state,
    p: provider,
    r: returnTo.slice(origin.length),
    ...(silent && { q: 1 }),
    ...(restarted && { x: 1 }),
    ...(guarded === true && { g: 1 }),
    ...(promptsLogin === true && { l: 1 }),
    ...(maxAge !== undefined && { m: maxAge }),
    ...(acrValues !== undefined && { a: acrValues }),
    ...(resource !== undefined && { o: resource }),
    ...(native !== undefined && { n: native }),
    ...(appState !== undefined && { d: appState.value })
  }
}

export function unpackTrace (packed: PackedTrace, origin: string): LoginTrace {
  const { s: state, p: provider, r, q, x, g, l, m: maxAge, a: acrValues, o: resource, n: native } = packed
  return {
    state,
    provider,
    returnTo: origin + r,
    silent: q === 1,
    restarted: x === 1,
    guarded: g === 1,
    promptsLogin: l === 1,
    maxAge,
    acrValues,
    resource,
    native,
    appState: 'd' in packed ? { value: packed.d } : undefined
  }
}

export function traceOf (login: LoginTrace): LoginTrace {
  const { state, provider, returnTo, silent, restarted, guarded, promptsLogin } = login
  const { maxAge, acrValues, resource, native, appState } = login
  const demands = { maxAge, acrValues, resource, native, appState }
  return { state, provider, returnTo, silent, restarted, guarded, promptsLogin, ...demands }
}
