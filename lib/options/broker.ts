import { isRecord } from '../util/json.ts'
import { isLoopbackHttp, parseUrl } from '../util/url.ts'
import {
  bool, check, checkKeys, checkSet, HTTPS_ISSUER, issuerUrl, number, oneOf, optional, strings, text, webUrl
} from './check.ts'
import type { ParseContext } from './context.ts'
import type { BrokerOptions, NativeClientOptions } from '../../types/options.ts'

/** Every option of the broker, checked and complete. Times in seconds. */
export interface BrokerSettings {
  issuer: string
  audience: string
  accessTokenTtl: number
  refreshTokenTtl: number
  signingAlg: SigningAlg
  keyLifetime: number
  trustedIssuers: TrustedIssuerSettings[]
  nativeClients: NativeClientSettings | undefined
  /** The secrets of the resource servers that may introspect tokens, by name. */
  resourceServers: ReadonlyMap<string, string>
  claims: BrokerOptions['claims']
  onIssue: BrokerOptions['onIssue']
}

export type SigningAlg = 'ES256' | 'EdDSA' | 'RS256'

export interface TrustedIssuerSettings {
  issuer: string
  jwksUri: string
  strictType: boolean
}

export interface NativeClientSettings {
  clientIds: string[]
  redirectUris: string[]
  pkceRequired: boolean
}

export interface BrokerContext extends Pick<ParseContext, 'baseUrl' | 'httpProblem' | 'hook'> {
  /** The path below which all routes are. */
  prefix: string
}

const OPTIONS = [
  'audience', 'issuer', 'accessTokenTtl', 'refreshTokenTtl', 'signingAlg', 'keyLifetime', 'trustedIssuers',
  'nativeClients', 'resourceServers', 'claims', 'onIssue'
]
/** What signs the tokens of the broker. */
export const BROKER_SIGNING_ALGS = ['ES256', 'EdDSA', 'RS256']
const HOUR = 3600
const DAY = 86_400

/** Throws FST_OIDC_OPTION. */
export function parseBroker (value: unknown, context: BrokerContext): BrokerSettings {
  check(isRecord(value), '"broker" must be an object')
  checkKeys(value, OPTIONS, 'broker.')
  const options = value as Partial<BrokerOptions>
  return {
    issuer: parseIssuer(options.issuer, context),
    audience: text(options.audience, 'broker.audience'),
    accessTokenTtl: number(options.accessTokenTtl, 900, 'broker.accessTokenTtl', [1, DAY]),
    refreshTokenTtl: number(options.refreshTokenTtl, 30 * DAY, 'broker.refreshTokenTtl', [1, 400 * DAY]),
    signingAlg: oneOf(options.signingAlg ?? 'ES256', BROKER_SIGNING_ALGS, 'broker.signingAlg'),
    keyLifetime: number(options.keyLifetime, 90 * DAY, 'broker.keyLifetime', [HOUR, 3650 * DAY]),
    trustedIssuers: parseTrustedIssuers(options.trustedIssuers ?? [], context),
    nativeClients: optional(options.nativeClients, 'broker.nativeClients', parseNativeClients),
    resourceServers: parseResourceServers(options.resourceServers ?? {}),
    claims: context.hook(options.claims, 'broker.claims'),
    onIssue: context.hook(options.onIssue, 'broker.onIssue')
  }
}

function parseIssuer (value: unknown, { baseUrl, httpProblem }: BrokerContext): string {
  return value === undefined ? baseUrl : issuerUrl(value, 'broker.issuer', httpProblem)
}

function parseTrustedIssuers (value: unknown, context: BrokerContext): TrustedIssuerSettings[] {
  check(Array.isArray(value), '"broker.trustedIssuers" must be an array')
  return value.map((entry) => parseTrustedIssuer(entry, context))
}

function parseTrustedIssuer (value: unknown, { prefix, httpProblem }: BrokerContext): TrustedIssuerSettings {
  const options = typeof value === 'string' ? { issuer: value } : value
  check(isRecord(options), '"broker.trustedIssuers" must be addresses or objects')
  checkKeys(options, ['issuer', 'jwksUri', 'strictType'], 'broker.trustedIssuers.')
  const issuer = issuerUrl(options['issuer'], 'broker.trustedIssuers.issuer', httpProblem)
  const jwksUri = options['jwksUri'] ?? `${issuer.replace(/\/$/, '')}${prefix}/.well-known/jwks.json`
  webUrl(jwksUri, 'broker.trustedIssuers.jwksUri', isLoopbackHttp(issuer) ? httpProblem : HTTPS_ISSUER)
  const strictType = bool(options['strictType'], true, 'broker.trustedIssuers.strictType')
  return { issuer, jwksUri: jwksUri as string, strictType }
}

function parseNativeClients (value: unknown): NativeClientSettings {
  check(isRecord(value), '"broker.nativeClients" must be an object')
  checkKeys(value, ['clientIds', 'redirectUris', 'pkceRequired'], 'broker.nativeClients.')
  const options = value as NativeClientOptions
  return {
    clientIds: strings(options.clientIds ?? [], 'broker.nativeClients.clientIds'),
    redirectUris: strings(options.redirectUris ?? [], 'broker.nativeClients.redirectUris').map(parseRedirectUri),
    pkceRequired: bool(options.pkceRequired, true, 'broker.nativeClients.pkceRequired')
  }
}

// RFC 8252, section 7.1: a private-use URI scheme is a reversed domain name. Loopback addresses need not be listed,
// because they are always allowed.
function parseRedirectUri (value: string): string {
  const url = parseUrl(value)
  const isPrivateUse = url !== null && /^[a-z][a-z0-9+-]*(?:\.[a-z0-9+-]+)+:$/.test(url.protocol)
  check(
    url?.protocol === 'https:' || isPrivateUse,
    '"broker.nativeClients.redirectUris" must be https URLs, or have a scheme such as com.example.app:'
  )
  check(
    url.hash === '' && url.username === '' && url.password === '',
    '"broker.nativeClients.redirectUris" must have no credentials and no fragment'
  )
  return value
}

function parseResourceServers (value: unknown): Map<string, string> {
  check(isRecord(value), '"broker.resourceServers" must be an object of names and secrets')
  const servers = Object.entries(value).map(([name, secret]): [string, string] => {
    checkSet(secret, `broker.resourceServers.${name}`)
    const isSecret = typeof secret === 'string' && Buffer.byteLength(secret) >= 32
    check(isSecret, `"broker.resourceServers.${name}" must be a secret of at least 32 bytes`)
    return [name, secret]
  })
  return new Map(servers)
}
