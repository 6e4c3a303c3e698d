import {
  bool, check, checkKeys, func, issuerUrl, number, oneOf, optional, strings, text, webUrl
} from './check.ts'
import { parseUrl } from '../util/url.ts'
import { isRecord } from '../util/json.ts'
import type { BrokerOptions, NativeClientOptions } from '../../types/options.ts'

/** Every option of the broker checked and every default filled in. Times in seconds. */
export interface BrokerSettings {
  issuer: string
  audience: string
  accessTokenTtl: number
  refreshTokenTtl: number
  signingAlg: SigningAlg
  keyLifetime: number
  trustedIssuers: TrustedIssuerSettings[]
  nativeClients: NativeClientSettings | undefined
  /** The secrets of those who may ask about tokens, by name. */
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

interface ParseContext {
  baseUrl: string
  prefix: string
  allowInsecureLoopback: boolean
}

const OPTIONS = [
  'audience', 'issuer', 'accessTokenTtl', 'refreshTokenTtl', 'signingAlg', 'keyLifetime', 'trustedIssuers',
  'nativeClients', 'resourceServers', 'claims', 'onIssue'
]
const DAY = 86_400

/** Throws FST_OIDC_OPTION. */
export function parseBroker (value: unknown, { baseUrl, prefix, allowInsecureLoopback }: ParseContext): BrokerSettings {
  check(isRecord(value), '"broker" must be an object')
  checkKeys(value, OPTIONS, 'broker.')
  const options = value as Partial<BrokerOptions>
  return {
    issuer:
      optional(options.issuer, 'broker.issuer', (url, key) => issuerUrl(url, key, allowInsecureLoopback)) ?? baseUrl,
    audience: text(options.audience, 'broker.audience'),
    accessTokenTtl: number(options.accessTokenTtl, 900, 'broker.accessTokenTtl', 1, DAY),
    refreshTokenTtl: number(options.refreshTokenTtl, 30 * DAY, 'broker.refreshTokenTtl', 1, 400 * DAY),
    signingAlg: oneOf(options.signingAlg ?? 'ES256', ['ES256', 'EdDSA', 'RS256'], 'broker.signingAlg'),
    keyLifetime: number(options.keyLifetime, 90 * DAY, 'broker.keyLifetime', 3600, 3650 * DAY),
    trustedIssuers: parseTrustedIssuers(options.trustedIssuers ?? [], prefix, allowInsecureLoopback),
    nativeClients: optional(options.nativeClients, 'broker.nativeClients', parseNativeClients),
    resourceServers: parseResourceServers(options.resourceServers ?? {}),
    claims: func(options.claims, 'broker.claims'),
    onIssue: func(options.onIssue, 'broker.onIssue')
  }
}

function parseTrustedIssuers (value: unknown, prefix: string, allowInsecureLoopback: boolean): TrustedIssuerSettings[] {
  check(Array.isArray(value), '"broker.trustedIssuers" must be an array')
  return value.map((entry: unknown) => {
    const peer = typeof entry === 'string' ? { issuer: entry } : entry
    check(isRecord(peer), '"broker.trustedIssuers" must be addresses or objects')
    checkKeys(peer, ['issuer', 'jwksUri', 'strictType'], 'broker.trustedIssuers.')
    const issuer = issuerUrl(peer['issuer'], 'broker.trustedIssuers.issuer', allowInsecureLoopback)
    const jwksUri = peer['jwksUri'] ?? `${issuer.replace(/\/$/, '')}${prefix}/.well-known/jwks.json`
    webUrl(jwksUri, 'broker.trustedIssuers.jwksUri', allowInsecureLoopback)
    return {
      issuer,
      jwksUri: jwksUri as string,
      strictType: bool(peer['strictType'] as boolean | undefined, true, 'broker.trustedIssuers.strictType')
    }
  })
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

// RFC 8252, section 7.1: a scheme of an application's own is a domain name in reverse. http is for loopback,
// which is always allowed.
function parseRedirectUri (value: string): string {
  const url = parseUrl(value)
  const isOwnScheme = url !== null && /^[a-z][a-z0-9+-]*(?:\.[a-z0-9+-]+)+:$/.test(url.protocol)
  check(
    url?.protocol === 'https:' || isOwnScheme,
    '"broker.nativeClients.redirectUris" must be https URLs, or of a scheme such as com.example.app:'
  )
  check(
    url.hash === '' && url.username === '' && url.password === '',
    '"broker.nativeClients.redirectUris" must have no credentials and no fragment'
  )
  return value
}

function parseResourceServers (value: unknown): Map<string, string> {
  check(isRecord(value), '"broker.resourceServers" must be an object of names and secrets')
  return new Map(
    Object.entries(value).map(([name, secret]) => {
      check(
        typeof secret === 'string' && Buffer.byteLength(secret) >= 32,
        `"broker.resourceServers.${name}" must be a secret of at least 32 bytes`
      )
      return [name, secret]
    })
  )
}
