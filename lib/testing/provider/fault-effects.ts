import type { JSONWebKeySet } from 'jose'
import type { Answer } from './answer.ts'
import type { Claims, SignWith } from './token-options.ts'

/** A body that no client should accept. Where possible, it is the right response with one change. */
export type Garbage =
  'html' | 'empty' | 'truncated' | 'array' | 'null' | 'number' | 'string' | 'content-type' | 'no-content-type' |
  'gzip-bomb' | 'huge' | 'deep' | 'duplicate-keys' | 'bom' | 'invalid-utf8'

/** What goes wrong on the network. */
export interface TransportFault {
  /** How long the request waits before it is handled, in milliseconds. */
  delay?: number
  /** The status of the response. The endpoint does not handle the request. */
  status?: number
  /** Headers that replace or extend those of the response. */
  headers?: Record<string, string>
  /** The body of the response. The endpoint does not handle the request. */
  body?: string | Buffer
  /** Redirects to this URL. Default of `status`: 302. */
  redirect?: string
  /** Accepts the request and never responds. */
  hang?: boolean
  /** Destroys the connection. */
  reset?: boolean
  /** With `status`, `body`, `redirect`, `hang` or `reset`: the endpoint handles the request, the response is lost. */
  after?: boolean
  /** Sends the headers and no body. */
  stall?: boolean
  /** Sends half of the body, then destroys the connection. */
  cut?: boolean
  /** Sends one byte per this number of milliseconds. `true` is 1000. */
  drip?: boolean | number
  /** Sends a body that no client should accept. */
  garbage?: Garbage
  /** The size of `huge` and of the decompressed `gzip-bomb`, in MiB. Default: 50. */
  megabytes?: number
}

/** Changes claims, parameters or a document in place, or returns another value. */
export type Change<T> = (value: T) => T | void

/** What is wrong with the content of a response. */
export interface ContentFault {
  /** Changes the claims and header of the ID token before they are signed. */
  idToken?: (claims: Claims, header: Claims) => Claims | void
  /** Changes the ID token after it was signed. */
  idTokenRaw?: (jwt: string) => string
  /** Signs the ID token, or a signed UserInfo response, in another way. */
  signWith?: SignWith
  /** Changes the claims and header of a JWT access token before they are signed. */
  accessToken?: (claims: Claims, header: Claims) => Claims | void
  /** Changes the token response. */
  tokenResponse?: Change<Claims>
  /** Changes the metadata. */
  metadata?: Change<Claims>
  /** Changes the public keys. */
  jwks?: Change<JSONWebKeySet>
  /** Changes the UserInfo claims. */
  userinfo?: Change<Claims>
  /** Changes the parameters that go back to the redirect URI. */
  authorizationResponse?: Change<URLSearchParams>
  /** Changes the parameters that go back to the post-logout redirect URI. */
  logoutResponse?: Change<URLSearchParams>
  /** Changes the whole response. */
  answer?: Change<Answer>
}

/** Applies a change. */
export const change = <T>(value: T, fn: ((value: T) => T | void) | undefined): T => fn?.(value) ?? value
