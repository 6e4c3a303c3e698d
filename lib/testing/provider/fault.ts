import type { JSONWebKeySet } from 'jose'
import type { Answer } from './answer.ts'
import type { Claims, Endpoint, Provider, ProviderRequest, SignWith } from './types.ts'

/** Bodies that no client should swallow. Where it can be, it is the right answer with something wrong about it. */
export type Garbage =
  'html' | 'empty' | 'truncated' | 'array' | 'null' | 'number' | 'string' | 'content-type' | 'no-content-type' |
  'gzip-bomb' | 'huge' | 'deep' | 'duplicate-keys' | 'bom' | 'invalid-utf8'

/** What goes wrong on the wire. */
export interface TransportFault {
  /** Milliseconds before the request is handled. */
  delay?: number
  /** Answers with this status, and not with the endpoint's answer. */
  status?: number
  /** Laid over the headers of the answer. */
  headers?: Record<string, string>
  /** Answers with this body, and not with the endpoint's answer. */
  body?: string | Buffer
  /** Answers with a redirect to this URL; `status` default 302. */
  redirect?: string
  /** Accepts the request and never answers. */
  hang?: boolean
  /** Destroys the connection. */
  reset?: boolean
  /** With `status`, `body`, `redirect`, `hang` or `reset`: the request takes effect, only its answer is lost. */
  after?: boolean
  /** Sends the headers and then nothing. */
  stall?: boolean
  /** Sends half of the body and destroys the connection. */
  cut?: boolean
  /** Sends one byte per so many milliseconds; `true` is 1000. */
  drip?: boolean | number
  garbage?: Garbage
  /** Size of `huge` and of the unpacked `gzip-bomb`; default 50. */
  megabytes?: number
}

/** A function over claims, parameters or a document: changes it in place, or returns another. */
export type Change<T> = (value: T) => T | void

/** What is wrong with the content. */
export interface ContentFault {
  /** Changes the ID token's claims and header before they are signed. */
  idToken?: (claims: Claims, header: Claims) => Claims | void
  /** Changes the signed ID token. */
  idTokenRaw?: (jwt: string) => string
  /** Signs the ID token (or a signed UserInfo answer) in another way. */
  signWith?: SignWith
  /** Changes a JWT access token's claims and header before they are signed. */
  accessToken?: (claims: Claims, header: Claims) => Claims | void
  tokenResponse?: Change<Claims>
  metadata?: Change<Claims>
  jwks?: Change<JSONWebKeySet>
  userinfo?: Change<Claims>
  /** Changes the parameters that go back to the redirect URI. */
  authorizationResponse?: Change<URLSearchParams>
  /** Changes the parameters that go back to the post-logout redirect URI. */
  logoutResponse?: Change<URLSearchParams>
  /** Changes the whole answer. */
  answer?: Change<Answer>
}

/** One thing that goes wrong at one endpoint. */
export interface Fault extends TransportFault, ContentFault {
  on: Endpoint
  /** For how many requests; default for all until it is cleared. */
  times?: number
  /** Only for requests of which this is true. */
  when?: (request: ProviderRequest) => boolean
  /** Runs before the request is handled, e.g. to rotate the keys just before a token is signed. */
  before?: (provider: Provider, request: ProviderRequest) => void | Promise<void>
}

export interface ActiveFault {
  fault: Fault
  left: number
}

/** Applies a change that mutates or returns. */
export const change = <T>(value: T, fn: ((value: T) => T | void) | undefined): T => fn?.(value) ?? value

/** Takes the faults that hit this request, and counts them down. */
export const takeFaults = (active: ActiveFault[], request: ProviderRequest): Fault[] => {
  const hit = active.filter(({ fault, left }) =>
    left > 0 && fault.on === request.endpoint && (fault.when?.(request) ?? true))
  for (const entry of hit) entry.left--
  return hit.map(({ fault }) => fault)
}
