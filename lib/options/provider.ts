import { limited } from '../util/at-most.ts'
import { isRecord } from '../util/json.ts'
import { isLoopbackHttp } from '../util/url.ts'
import { parseAuthorization } from './authorization-params.ts'
import {
  bool, check, checkKeys, checkSet, findUnset, HTTPS_ISSUER, issuerUrl, number, oneOf, optional, strings, text, webUrl
} from './check.ts'
import { privateKey, privateKeys, rotatable } from './client-keys.ts'
import { parseTransport } from './transport.ts'
import type { AuthorizationSettings } from './authorization-params.ts'
import type { ParseContext } from './context.ts'
import type { TransportSettings } from './transport.ts'
import type {
  ClaimSource, ClientAuth, ClientKey, Encryption, ProviderMetadata, ProviderOptions, SigningAlgorithm
} from '../../types/options.ts'

/** Every option of one provider, checked and complete. */
export interface ProviderSettings
  extends IssuerSettings, ClientSettings, AuthorizationSettings, TokenSettings, TransportSettings {
  name: string
  label: string
  responseMode: 'query' | 'form_post'
  userinfo: boolean
  /** The first that has a claim counts. `undefined`: roles are not told apart from other claims. */
  rolesFrom: readonly ClaimSource[] | undefined
  discovery: 'lazy' | 'eager'
  /** In seconds. */
  clockTolerance: number
}

interface IssuerSettings {
  issuer: string
  discoveryUrl: string
  /** Whether the metadata must be fetched, because the configured one is not complete. */
  needsDiscovery: boolean
  /** Wins over what is discovered. */
  metadata: Partial<ProviderMetadata>
  jwksUri: string | undefined
  accessTokenIssuer: string | undefined
  /** Whether the provider itself is http on a loopback address: only then may its endpoints be. */
  allowInsecureLoopback: boolean
}

interface ClientSettings {
  clientId: string
  /** The clients whose access tokens belong to this provider. `undefined`: all that no other provider has. */
  clientIds: string[] | undefined
  clientAuth: ClientAuth
  /** The current secret, which may differ from call to call. */
  clientSecret: () => Promise<string>
  clientKey: () => Promise<ClientKey>
  basicEncoding: 'form' | 'raw'
  clientAssertionAudience: string | undefined
}

interface TokenSettings {
  idTokenSigningAlg: SigningAlgorithm
  idTokenEncryption: Required<Encryption> | undefined
  userinfoSigningAlg: SigningAlgorithm | undefined
  userinfoEncryption: Required<Encryption> | undefined
  decryptionKeys: () => Promise<ClientKey[]>
  isTrustedAudience: (audience: string) => boolean | Promise<boolean>
  authTime: 'required' | 'optional'
}

export const PROVIDER_OPTIONS = [
  'label', 'issuer', 'discoveryUrl', 'metadata', 'clientId', 'clientSecret', 'clientAuth', 'clientKey',
  'basicEncoding', 'clientAssertionAudience', 'scope', 'offlineAccess', 'audience', 'resource', 'authorizationParams', 'pushedAuthorizationRequests', 'responseMode',
  'idTokenSigningAlg', 'idTokenEncryption', 'userinfoSigningAlg', 'userinfoEncryption', 'decryptionKey',
  'trustedAudiences', 'authTime', 'jwksUri', 'expectedIssuer', 'accessTokenIssuer', 'clientIds', 'userinfo', 'rolesFrom',
  'discovery', 'clockTolerance', 'fetch', 'dispatcher', 'timeout', 'maxResponseBytes'
]
/** Where the metadata is, below the issuer (OpenID Connect Discovery 1.0, section 4). */
export const WELL_KNOWN = '/.well-known/openid-configuration'
const METADATA = ['issuer', 'authorization_endpoint', 'token_endpoint', 'jwks_uri']
const SECRET_AUTHS = ['client_secret_basic', 'client_secret_post', 'client_secret_jwt']
const CLIENT_AUTHS = [...SECRET_AUTHS, 'private_key_jwt', 'tls_client_auth', 'none']
const CLAIM_SOURCES = ['id_token', 'userinfo', 'access_token']
export const SIGNING_ALGS = [
  'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'
]
// No passwords (PBES2), no RSA1_5, and no key that the provider also has (RFC 8725, sections 3.2 and 3.3).
const KEY_ENCRYPTION_ALGS = [
  'RSA-OAEP', 'RSA-OAEP-256', 'RSA-OAEP-384', 'RSA-OAEP-512', 'ECDH-ES', 'ECDH-ES+A128KW', 'ECDH-ES+A192KW',
  'ECDH-ES+A256KW'
]
const CONTENT_ENCRYPTIONS = ['A128CBC-HS256', 'A192CBC-HS384', 'A256CBC-HS512', 'A128GCM', 'A192GCM', 'A256GCM']

/** Whether a text may be the name of a provider: the name is part of its paths. */
export function isProviderName (name: string): boolean {
  return /^[A-Za-z0-9][\w.-]{0,63}$/.test(name)
}

/** Throws FST_OIDC_OPTION. */
export function parseProvider (name: string, options: ProviderOptions, context: ParseContext): ProviderSettings {
  const sources = ['issuer', 'discoveryUrl', 'metadata'] as const
  const hasIssuer = sources.some((key) => options[key] !== undefined)
  const unset = hasIssuer ? undefined : findUnset(options, sources)
  if (unset !== undefined) checkSet(undefined, unset)
  check(hasIssuer, 'one of "issuer", "discoveryUrl" and "metadata" is required')
  const { secure, httpProblem } = context
  const transport = parseTransport(options)
  return {
    name,
    label: optional(options.label, 'label', text) ?? name,
    ...parseIssuer(options, httpProblem),
    ...parseClient(options, transport),
    ...parseAuthorization(options),
    responseMode: parseResponseMode(options.responseMode ?? 'query', secure),
    ...parseTokens(options, transport),
    userinfo: bool(options.userinfo, false, 'userinfo'),
    rolesFrom: optional(options.rolesFrom, 'rolesFrom', parseRolesFrom),
    discovery: oneOf(options.discovery ?? 'lazy', ['lazy', 'eager'], 'discovery'),
    clockTolerance: number(options.clockTolerance, 30, 'clockTolerance', [0, 300]),
    ...transport
  }
}

function parseRolesFrom (value: unknown, key: string): ClaimSource[] {
  const sources = strings(value, key).map((source) => oneOf<ClaimSource>(source, CLAIM_SOURCES, key))
  check(sources.length > 0, `"${key}" must name a source: without one, no user has a role`)
  return sources
}

function parseIssuer (options: ProviderOptions, httpProblem: string | undefined): IssuerSettings {
  const issuer = optional(options.issuer, 'issuer', (value, key) => issuerUrl(value, key, httpProblem))
  const expectedIssuer = optional(options.expectedIssuer, 'expectedIssuer', text)
  const metadata = optional(options.metadata, 'metadata', parseMetadata) ?? {}
  const isLoopback = isLoopbackHttp(String(issuer ?? metadata.issuer ?? options.discoveryUrl))
  const url = (value: unknown, key: string): string => webUrl(value, key, isLoopback ? httpProblem : HTTPS_ISSUER).href
  const discoveryUrl = optional(options.discoveryUrl, 'discoveryUrl', url)
  const jwksUri = optional(options.jwksUri, 'jwksUri', url)
  const missing = METADATA.find((key) => metadata[key] === undefined && (key !== 'jwks_uri' || jwksUri === undefined))
  const needsDiscovery = missing !== undefined
  const canDiscover = issuer !== undefined || discoveryUrl !== undefined
  check(!needsDiscovery || canDiscover, `"metadata.${missing}" is required without "issuer" and "discoveryUrl"`)
  const finalIssuer = expectedIssuer ?? issuer ?? metadata.issuer ?? issuerOf(discoveryUrl)
  check(
    finalIssuer !== undefined,
    '"discoveryUrl" needs an "issuer" or "expectedIssuer" that the metadata must name'
  )
  const { issuer: named = finalIssuer } = metadata
  check(named === finalIssuer, `"metadata.issuer" is ${named}, not ${finalIssuer}, the issuer of the other options`)
  return {
    issuer: finalIssuer,
    discoveryUrl: discoveryUrl ?? discoveryUrlOf(issuer),
    needsDiscovery,
    metadata,
    jwksUri,
    accessTokenIssuer: optional(options.accessTokenIssuer, 'accessTokenIssuer', text),
    allowInsecureLoopback: isLoopback && httpProblem === undefined
  }
}

function discoveryUrlOf (issuer: string | undefined): string {
  return issuer === undefined ? '' : issuer.replace(/\/$/, '') + WELL_KNOWN
}

// OpenID Connect Discovery 1.0, section 4.1: the discovery URL is the issuer and the well-known path.
function issuerOf (discoveryUrl: string | undefined): string | undefined {
  return discoveryUrl?.endsWith(WELL_KNOWN) === true ? discoveryUrl.slice(0, -WELL_KNOWN.length) : undefined
}

function parseMetadata (value: unknown): Partial<ProviderMetadata> {
  check(isRecord(value), '"metadata" must be an object')
  const given = Object.fromEntries(Object.entries(value).filter(([, member]) => member !== undefined))
  for (const key of METADATA) optional(given[key], `metadata.${key}`, text)
  return given
}

function parseClient (options: ProviderOptions, { timeout }: Pick<TransportSettings, 'timeout'>): ClientSettings {
  const clientId = credential(options.clientId, 'clientId')
  const clientAuth = oneOf<ClientAuth>(options.clientAuth ?? defaultAuth(options), CLIENT_AUTHS, 'clientAuth')
  const needsSecret = SECRET_AUTHS.includes(clientAuth)
  const needsKey = clientAuth === 'private_key_jwt'
  const hasSecret = options.clientSecret !== undefined
  const hasKey = options.clientKey !== undefined
  // An unset environment variable must not make a public client of it.
  const isPublic = clientAuth === 'none' && options.clientAuth === undefined
  const unset = findUnset(options, [
    ...(!hasSecret && (needsSecret || isPublic) ? ['clientSecret'] : []),
    ...(!hasKey && (needsKey || isPublic) ? ['clientKey'] : [])
  ])
  if (unset !== undefined) checkSet(undefined, unset)
  check(needsSecret === hasSecret, `"clientSecret" does not go with "clientAuth" ${clientAuth}`)
  check(needsKey === hasKey, `"clientKey" does not go with "clientAuth" ${clientAuth}`)
  return {
    clientId,
    clientIds: optional(options.clientIds, 'clientIds', strings),
    clientAuth,
    clientSecret: rotatable(options.clientSecret, 'clientSecret', credential, timeout),
    clientKey: rotatable(options.clientKey, 'clientKey', privateKey, timeout),
    basicEncoding: parseBasicEncoding(options.basicEncoding ?? 'form', clientId),
    clientAssertionAudience: optional(options.clientAssertionAudience, 'clientAssertionAudience', text)
  }
}

// A line break at the end comes from a file. The provider would refuse the client without a reason.
function credential (value: unknown, key: string): string {
  const credential = text(value, key)
  check(credential.trimEnd() === credential, `"${key}" ends with white space: does it come from a file with a line break?`)
  return credential
}

function parseBasicEncoding (value: unknown, clientId: string): ProviderSettings['basicEncoding'] {
  const encoding = oneOf<ProviderSettings['basicEncoding']>(value, ['form', 'raw'], 'basicEncoding')
  check(encoding === 'form' || !clientId.includes(':'), '"basicEncoding" raw cannot send a "clientId" with a colon')
  return encoding
}

function defaultAuth ({ clientSecret, clientKey }: ProviderOptions): ClientAuth {
  if (clientSecret !== undefined) return 'client_secret_basic'
  return clientKey === undefined ? 'none' : 'private_key_jwt'
}

function parseResponseMode (value: unknown, secure: boolean): ProviderSettings['responseMode'] {
  // Browsers send the cookie of the login with a form from another site only if it is SameSite=None and Secure.
  check(
    secure || value !== 'form_post',
    '"responseMode" form_post needs an https "baseUrl", or browsers do not send its cookie'
  )
  return oneOf(value, ['query', 'form_post'], 'responseMode')
}

function parseTokens (options: ProviderOptions, { timeout }: Pick<TransportSettings, 'timeout'>): TokenSettings {
  const signingAlg = (value: unknown, key: string): SigningAlgorithm => oneOf(value, SIGNING_ALGS, key)
  const idTokenEncryption = optional(options.idTokenEncryption, 'idTokenEncryption', parseEncryption)
  const userinfoEncryption = optional(options.userinfoEncryption, 'userinfoEncryption', parseEncryption)
  const needsKey = idTokenEncryption !== undefined || userinfoEncryption !== undefined
  const hasKey = options.decryptionKey !== undefined
  if (needsKey && 'decryptionKey' in options) checkSet(options.decryptionKey, 'decryptionKey')
  check(needsKey === hasKey, '"decryptionKey" goes with "idTokenEncryption" and "userinfoEncryption"')
  return {
    idTokenSigningAlg: signingAlg(options.idTokenSigningAlg ?? 'RS256', 'idTokenSigningAlg'),
    idTokenEncryption,
    userinfoSigningAlg: optional(options.userinfoSigningAlg, 'userinfoSigningAlg', signingAlg),
    userinfoEncryption,
    decryptionKeys: rotatable(options.decryptionKey, 'decryptionKey', privateKeys, timeout),
    isTrustedAudience: parseTrustedAudiences(options.trustedAudiences ?? [], timeout),
    authTime: oneOf(options.authTime ?? 'required', ['required', 'optional'], 'authTime')
  }
}

function parseTrustedAudiences (value: unknown, timeout: number): TokenSettings['isTrustedAudience'] {
  if (value === '*') return () => true
  if (typeof value === 'function') return limited(value as TokenSettings['isTrustedAudience'], timeout, 'timeout')
  check(Array.isArray(value), '"trustedAudiences" must be an array of strings, a function or "*"')
  const trusted = strings(value, 'trustedAudiences')
  return (audience) => trusted.includes(audience)
}

function parseEncryption (value: unknown, key: string): Required<Encryption> {
  check(isRecord(value), `"${key}" must be an object`)
  checkKeys(value, ['alg', 'enc'], `${key}.`)
  return {
    alg: oneOf(value['alg'], KEY_ENCRYPTION_ALGS, `${key}.alg`),
    enc: oneOf(value['enc'] ?? 'A128CBC-HS256', CONTENT_ENCRYPTIONS, `${key}.enc`)
  }
}
