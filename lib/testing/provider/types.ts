import type { JSONWebKeySet } from 'jose'
import type { ContentFault, TransportFault } from './fault-effects.ts'
import type { Endpoint, ProviderClient, ProviderOptions, ProviderUser } from './options.ts'
import type {
  AccessTokenOptions, LogoutAnswer, LogoutTokenOptions, SendLogoutOptions, TokenOptions
} from './token-options.ts'

/** A request as the provider received it. */
export interface ProviderRequest {
  endpoint: Endpoint | 'unknown'
  method: string
  /** The path, without the query. */
  path: string
  query: Record<string, string>
  headers: Record<string, string | string[] | undefined>
  /** The form fields. */
  body: Record<string, string>
  rawBody: string
  /** The subject of the client certificate, over mutual TLS: `CN=` and the common name. */
  clientCertificate?: string
}

/** What `rotateKeys` does. */
export interface RotateOptions {
  /** The new keys have the `kid`s of the old ones. Default: `false`. */
  sameKid?: boolean
  /** The old keys stay in the key set. Default: `false`. */
  keep?: boolean
}

/** What goes wrong at one endpoint. */
export interface Fault extends TransportFault, ContentFault {
  /** The endpoint. */
  on: Endpoint
  /** For how many requests. Default: until it is cleared. */
  times?: number
  /** Only for requests for which it returns `true`. Default: all requests. */
  when?: (request: ProviderRequest) => boolean
  /** Runs before the request is handled, for example to rotate the keys just before a token is signed. */
  before?: (provider: Provider, request: ProviderRequest) => void | Promise<void>
}

/** A running provider. */
export interface Provider {
  /** The issuer identifier: `url` followed by the option `path`. */
  readonly issuer: string
  /** The origin, for example `http://127.0.0.1:51234`. */
  readonly url: string
  readonly port: number
  /** The options. Changes take effect with the next request. */
  readonly options: ProviderOptions
  /** The users. Changes take effect with the next request. */
  readonly users: ProviderUser[]
  /** The clients. Changes take effect with the next request. */
  readonly clients: ProviderClient[]
  /** All requests so far, oldest first. */
  readonly requests: ProviderRequest[]
  /** Returns how many requests an endpoint has received. */
  count (endpoint: Endpoint): number
  /** Forgets the requests so far. */
  clearRequests (): void
  /** Switches faults on. Returns a function that switches these faults off. */
  fault (...faults: Array<Fault | readonly Fault[]>): () => void
  /** Switches all faults off. */
  clearFaults (): void
  /** Creates new signing keys. */
  rotateKeys (options?: RotateOptions): void
  /** Returns the public keys, without any fault. */
  jwks (): JSONWebKeySet
  /** Creates an ID token, signed as in a login. */
  idToken (options?: TokenOptions): string
  /** Creates a JWT access token (RFC 9068). */
  accessToken (options?: AccessTokenOptions): string
  /** Creates a logout token (OpenID Connect Back-Channel Logout 1.0, section 2.4). */
  logoutToken (options: LogoutTokenOptions): string
  /** Posts a logout token to the back-channel logout endpoint of an application. */
  sendLogoutToken (url: string, options: SendLogoutOptions): Promise<LogoutAnswer>
  /** Approves a device login: the one with this code. Default: the newest one. */
  approveDevice (user_code?: string, sub?: string): void
  /** Denies a device login: the one with this code. Default: the newest one. */
  denyDevice (user_code?: string): void
  /** Forgets all logins, grants and tokens, like a restart without a database. */
  forget (): void
  /** Stops the provider and destroys all open sockets. */
  close (): Promise<void>
}
