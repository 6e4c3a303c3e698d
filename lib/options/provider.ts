import {
  bool, check, checkKeys, func, issuerUrl, number, oneOf, optional, strings, text, webUrl
} from './check.ts'
import { isRecord } from '../util/json.ts'
import { OidcError } from '../errors.ts'
import type {
  ClientAuth, ClientKey, Dispatcher, Encryption, Fetch, ProviderMetadata, ProviderOptions, Rotatable, SigningAlgorithm
} from '../../types/options.ts'

/** One provider, checked and complete. */
export interface ProviderSettings {
  name: string
  label: string
  issuer: string
  discoveryUrl: string
  metadata: ProviderMetadata | undefined
  clientId: string
  clientAuth: ClientAuth
  /** The secret of now, which may be another one than a moment ago. */
  clientSecret: () => Promise<string>
  clientKey: () => Promise<ClientKey>
  scope: string
  resource: string[]
  authorizationParams: Record<string, string>
  pushedAuthorizationRequests: boolean
  responseMode: 'query' | 'form_post'
  idTokenSigningAlg: SigningAlgorithm
  idTokenEncryption: Required<Encryption> | undefined
  userinfoSigningAlg: SigningAlgorithm | undefined
  userinfoEncryption: Required<Encryption> | undefined
  decryptionKeys: () => Promise<ClientKey[]>
  trustedAudiences: string[]
  jwksUri: string | undefined
  userinfo: boolean
  discovery: 'lazy' | 'eager'
  clockTolerance: number
  fetch: Fetch
  dispatcher: Dispatcher | undefined
  timeout: number
  maxResponseBytes: number
  allowInsecureLoopback: boolean
}

/** What the application is, as far as the checks of a provider depend on it. */
export interface ParseContext {
  secure: boolean
  allowInsecureLoopback: boolean
}

export const PROVIDER_OPTIONS = [
  'label', 'issuer', 'discoveryUrl', 'metadata', 'clientId', 'clientSecret', 'clientAuth', 'clientKey', 'scope',
  'offlineAccess', 'audience', 'resource', 'authorizationParams', 'pushedAuthorizationRequests', 'responseMode',
  'idTokenSigningAlg', 'idTokenEncryption', 'userinfoSigningAlg', 'userinfoEncryption', 'decryptionKey',
  'trustedAudiences', 'jwksUri', 'expectedIssuer', 'userinfo', 'discovery', 'clockTolerance', 'fetch',
  'dispatcher', 'timeout', 'maxResponseBytes'
]
const SECRET_AUTHS = ['client_secret_basic', 'client_secret_post', 'client_secret_jwt']
const CLIENT_AUTHS = [...SECRET_AUTHS, 'private_key_jwt', 'tls_client_auth', 'none']
const SIGNING_ALGS = [
  'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'
]
// Neither passwords (PBES2) nor RSA1_5, and no key that the provider shares (RFC 8725, sections 3.2 and 3.3).
const KEY_ENCRYPTION_ALGS = [
  'RSA-OAEP', 'RSA-OAEP-256', 'RSA-OAEP-384', 'RSA-OAEP-512', 'ECDH-ES', 'ECDH-ES+A128KW', 'ECDH-ES+A192KW',
  'ECDH-ES+A256KW'
]
const CONTENT_ENCRYPTIONS = ['A128CBC-HS256', 'A192CBC-HS384', 'A256CBC-HS512', 'A128GCM', 'A192GCM', 'A256GCM']

// The plugin sets these itself; a caller that could set them too would take the login over (security.md S6).
const RESERVED_PARAMS: ReadonlySet<string> = new Set([
  'client_id', 'redirect_uri', 'response_type', 'response_mode', 'scope', 'state', 'nonce', 'code_challenge',
  'code_challenge_method', 'request', 'request_uri', 'resource'
])

/** A name of a provider is a part of its paths. */
export function isProviderName (name: string): boolean {
  return /^[A-Za-z0-9][\w.-]{0,63}$/.test(name)
}

/** Throws FST_OIDC_OPTION. */
export function parseProvider (
  name: string,
  options: ProviderOptions,
  { secure, allowInsecureLoopback }: ParseContext
): ProviderSettings {
  check(
    ['issuer', 'discoveryUrl', 'metadata'].some((key) => key in options),
    'one of "issuer", "discoveryUrl" and "metadata" is required'
  )
  check(
    secure || options.responseMode !== 'form_post',
    '"responseMode" form_post needs an https "baseUrl", or browsers do not send its cookie'
  )
  return {
    name,
    label: optional(options.label, 'label', text) ?? name,
    ...parseIssuer(options, allowInsecureLoopback),
    clientId: text(options.clientId, 'clientId'),
    ...parseClientAuth(options),
    ...parseAuthorization(options),
    responseMode: oneOf(options.responseMode ?? 'query', ['query', 'form_post'], 'responseMode'),
    ...parseTokens(options),
    userinfo: bool(options.userinfo, false, 'userinfo'),
    discovery: oneOf(options.discovery ?? 'lazy', ['lazy', 'eager'], 'discovery'),
    clockTolerance: number(options.clockTolerance, 30, 'clockTolerance', 0, 300),
    ...parseTransport(options),
    allowInsecureLoopback
  }
}

type IssuerSettings = Pick<ProviderSettings, 'issuer' | 'discoveryUrl' | 'metadata' | 'jwksUri'>

function parseIssuer (options: ProviderOptions, allowInsecureLoopback: boolean): IssuerSettings {
  const url = (value: unknown, key: string): string => webUrl(value, key, allowInsecureLoopback).href
  const metadata = optional(options.metadata, 'metadata', parseMetadata)
  const discoveryUrl = optional(options.discoveryUrl, 'discoveryUrl', url)
  const issuer = optional(options.issuer, 'issuer', (value, key) => issuerUrl(value, key, allowInsecureLoopback))
  const expectedIssuer =
    optional(options.expectedIssuer, 'expectedIssuer', text) ?? issuer ?? metadata?.issuer ?? issuerOf(discoveryUrl)
  check(
    expectedIssuer !== undefined,
    '"discoveryUrl" needs an "issuer" or "expectedIssuer" that the metadata must name'
  )
  return {
    issuer: expectedIssuer,
    discoveryUrl: discoveryUrl ?? wellKnown(issuer),
    metadata,
    jwksUri: optional(options.jwksUri, 'jwksUri', url)
  }
}

const WELL_KNOWN = '/.well-known/openid-configuration'

function wellKnown (issuer: string | undefined): string {
  return issuer === undefined ? '' : issuer.replace(/\/$/, '') + WELL_KNOWN
}

// OpenID Connect Discovery 1.0, section 4.3: the issuer is what stands before the well-known path.
function issuerOf (discoveryUrl: string | undefined): string | undefined {
  return discoveryUrl?.endsWith(WELL_KNOWN) === true ? discoveryUrl.slice(0, -WELL_KNOWN.length) : undefined
}

function parseMetadata (value: unknown): ProviderMetadata {
  check(isRecord(value), '"metadata" must be an object')
  for (const key of ['issuer', 'authorization_endpoint', 'token_endpoint', 'jwks_uri']) {
    text(value[key], `metadata.${key}`)
  }
  return value as ProviderMetadata
}

type ClientSettings = Pick<ProviderSettings, 'clientAuth' | 'clientSecret' | 'clientKey'>

function parseClientAuth (options: ProviderOptions): ClientSettings {
  const clientAuth = oneOf<ClientAuth>(options.clientAuth ?? usualAuth(options), CLIENT_AUTHS, 'clientAuth')
  check(
    SECRET_AUTHS.includes(clientAuth) === (options.clientSecret !== undefined),
    `"clientSecret" does not go with "clientAuth" ${clientAuth}`
  )
  check(
    (clientAuth === 'private_key_jwt') === (options.clientKey !== undefined),
    `"clientKey" does not go with "clientAuth" ${clientAuth}`
  )
  return {
    clientAuth,
    clientSecret: rotatable(options.clientSecret, 'clientSecret', text),
    clientKey: rotatable(options.clientKey, 'clientKey', keyOf)
  }
}

function usualAuth ({ clientSecret, clientKey }: ProviderOptions): ClientAuth {
  if (clientSecret !== undefined) return 'client_secret_basic'
  return clientKey === undefined ? 'none' : 'private_key_jwt'
}

/** A value, or a function that gives one at any time: what it gives is checked like the value. */
function rotatable<T> (
  value: Rotatable<T> | undefined,
  key: string,
  parse: (value: unknown, key: string) => T
): () => Promise<T> {
  if (typeof value !== 'function') optional(value, key, parse)
  const current = value as (() => T | Promise<T>) | T
  return async () => parse(typeof current === 'function' ? await (current as () => T | Promise<T>)() : current, key)
}

function keyOf (value: unknown, key: string): ClientKey {
  const isKey =
    typeof value === 'string'
      ? value.includes('PRIVATE KEY')
      : isRecord(value) && ('kty' in value ? 'd' in value : value['type'] === 'private')
  check(isKey, `"${key}" must be a private key: a JWK, a PEM text or a KeyObject`)
  return value as ClientKey
}

function keysOf (value: unknown, key: string): ClientKey[] {
  const keys = [value].flat()
  check(keys.length > 0 && keys.length <= 10, `"${key}" must be 1 to 10 keys`)
  return keys.map((entry) => keyOf(entry, key))
}

type AuthorizationSettings = Pick<
  ProviderSettings,
  'scope' | 'resource' | 'authorizationParams' | 'pushedAuthorizationRequests'
>

function parseAuthorization (options: ProviderOptions): AuthorizationSettings {
  const scope = optional(options.scope, 'scope', text) ?? 'openid profile email'
  check(scope.split(' ').includes('openid'), '"scope" must contain openid')
  const offlineAccess = bool(options.offlineAccess, false, 'offlineAccess')
  const audience = optional(options.audience, 'audience', text)
  return {
    scope: offlineAccess && !scope.split(' ').includes('offline_access') ? `${scope} offline_access` : scope,
    resource: optional(options.resource, 'resource', parseResource) ?? [],
    authorizationParams: {
      ...(offlineAccess && { prompt: 'consent' }),
      ...(audience !== undefined && { audience }),
      ...parseAuthorizationParams(options.authorizationParams ?? {}, 'authorizationParams')
    },
    pushedAuthorizationRequests: bool(options.pushedAuthorizationRequests, false, 'pushedAuthorizationRequests')
  }
}

/** Resource indicators: absolute URIs without a fragment (RFC 8707, section 2). */
export function parseResource (value: unknown, key: string): string[] {
  const resource = strings([value].flat(), key)
  check(
    resource.every((uri) => URL.canParse(uri) && !uri.includes('#')),
    `"${key}" must be absolute URIs without a fragment`
  )
  return resource
}

/** The parameters that an application may add to an authorization request. */
export function parseAuthorizationParams (value: unknown, key: string): Record<string, string> {
  check(isRecord(value), `"${key}" must be an object`)
  for (const [name, entry] of Object.entries(value)) {
    check(!RESERVED_PARAMS.has(name), `"${key}" must not set ${name}`)
    text(entry, `${key}.${name}`)
  }
  check(
    value['max_age'] === undefined || isSeconds(value['max_age'] as string),
    `"${key}.max_age" must be a number of seconds`
  )
  return value as Record<string, string>
}

/** Whether a parameter is a number of seconds, as `max_age` is. */
export function isSeconds (value: string): boolean {
  return /^\d{1,10}$/.test(value)
}

/** The parameters that the query of the login route may hand on. */
export function parseLoginParams (value: unknown, key: string): readonly string[] {
  const names = strings(value, key)
  for (const name of names) check(name === 'resource' || !RESERVED_PARAMS.has(name), `"${key}" must not allow ${name}`)
  return names
}

type TokenSettings = Pick<
  ProviderSettings,
  | 'idTokenSigningAlg'
  | 'idTokenEncryption'
  | 'userinfoSigningAlg'
  | 'userinfoEncryption'
  | 'decryptionKeys'
  | 'trustedAudiences'
>

function parseTokens (options: ProviderOptions): TokenSettings {
  const alg = (value: unknown, key: string): SigningAlgorithm => oneOf(value, SIGNING_ALGS, key)
  const idTokenEncryption = optional(options.idTokenEncryption, 'idTokenEncryption', parseEncryption)
  const userinfoEncryption = optional(options.userinfoEncryption, 'userinfoEncryption', parseEncryption)
  const encrypted = idTokenEncryption !== undefined || userinfoEncryption !== undefined
  check(
    encrypted === (options.decryptionKey !== undefined),
    '"decryptionKey" goes with "idTokenEncryption" and "userinfoEncryption"'
  )
  return {
    idTokenSigningAlg: alg(options.idTokenSigningAlg ?? 'RS256', 'idTokenSigningAlg'),
    idTokenEncryption,
    userinfoSigningAlg: optional(options.userinfoSigningAlg, 'userinfoSigningAlg', alg),
    userinfoEncryption,
    decryptionKeys: rotatable<ClientKey | ClientKey[]>(options.decryptionKey, 'decryptionKey', keysOf) as () => Promise<
      ClientKey[]
    >,
    trustedAudiences: optional(options.trustedAudiences, 'trustedAudiences', strings) ?? []
  }
}

function parseEncryption (value: unknown, key: string): Required<Encryption> {
  check(isRecord(value), `"${key}" must be an object`)
  checkKeys(value, ['alg', 'enc'], `${key}.`)
  return {
    alg: oneOf(value['alg'], KEY_ENCRYPTION_ALGS, `${key}.alg`),
    enc: oneOf(value['enc'] ?? 'A128CBC-HS256', CONTENT_ENCRYPTIONS, `${key}.enc`)
  }
}

export type TransportSettings = Pick<ProviderSettings, 'fetch' | 'dispatcher' | 'timeout' | 'maxResponseBytes'>

/** How providers, and other instances, are called. */
export function parseTransport (options: ProviderOptions): TransportSettings {
  return {
    fetch: func(options.fetch, 'fetch') ?? ((url, init) => fetch(url, init)),
    dispatcher: optional(options.dispatcher, 'dispatcher', parseDispatcher),
    timeout: number(options.timeout, 5, 'timeout', 0.001, 120),
    maxResponseBytes: number(options.maxResponseBytes, 1_048_576, 'maxResponseBytes', 1024, 64 * 1_048_576)
  }
}

function parseDispatcher (value: unknown): Dispatcher {
  check(isRecord(value) && typeof value['dispatch'] === 'function', '"dispatcher" must be an undici dispatcher')
  return value as unknown as Dispatcher
}

/** Puts the place of the provider's options before the message of an error. */
export function within<T> (place: string, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    throw new OidcError('FST_OIDC_OPTION', { message: `${place}: ${(error as Error).message}` })
  }
}
