import { hkdfSync } from 'node:crypto'
import { OidcError } from './errors.ts'
import type {
  ClaimValue, ClientAuth, Dispatcher, Fetch, OidcOptions, ProviderMetadata, ProviderOptions, RouteOptions,
  SessionKey, SessionOptions, SigningAlgorithm
} from '../types/options.ts'

/** One provider, checked and complete. */
export interface ProviderSettings {
  name: string
  issuer: string
  discoveryUrl: string
  metadata: ProviderMetadata | undefined
  clientId: string
  clientSecret: string | undefined
  clientAuth: ClientAuth
  scope: string
  resource: string[]
  authorizationParams: Record<string, string>
  responseMode: 'query' | 'form_post'
  idTokenSigningAlg: SigningAlgorithm
  trustedAudiences: string[]
  jwksUri: string | undefined
  userinfo: boolean
  discovery: 'lazy' | 'eager'
  clockTolerance: number
  allowInsecureLoopback: boolean
}

export interface RouteSettings {
  login: string | null
  callback: string
  logout: string | null
  loggedOut: string | null
  userinfo: string | null
  session: string | null
}

export interface SessionSettings {
  /** The first seals, all open. */
  keys: Buffer[]
  cookieName: string
  secure: boolean
  maxAge: number
  idleTimeout: number
  sameSite: 'lax' | 'strict' | 'none'
  tokens: ReadonlySet<string>
  trustedOrigins: ReadonlySet<string>
}

/** Every option checked and every default filled in: below this nothing is checked or defaulted again. */
export interface Settings {
  provider: ProviderSettings
  /** Without a trailing slash. */
  baseUrl: string
  origin: string
  routes: RouteSettings
  defaultReturnTo: string
  session: SessionSettings
  claims: readonly string[] | undefined
  parseClaims: OidcOptions['parseClaims']
  onClaims: OidcOptions['onClaims']
  onLogout: OidcOptions['onLogout']
  onError: OidcOptions['onError']
  requiredClaims: Record<string, ClaimValue | ClaimValue[]>
  fetch: Fetch
  dispatcher: Dispatcher | undefined
  timeout: number
  maxResponseBytes: number
  telemetry: OidcOptions['telemetry']
}

const PROVIDER_OPTIONS = [
  'issuer', 'discoveryUrl', 'metadata', 'clientId', 'clientSecret', 'clientAuth', 'scope', 'offlineAccess', 'audience',
  'resource', 'authorizationParams', 'responseMode', 'idTokenSigningAlg', 'trustedAudiences', 'jwksUri',
  'expectedIssuer', 'userinfo', 'discovery', 'clockTolerance'
]
const OPTIONS = [
  ...PROVIDER_OPTIONS, 'baseUrl', 'routes', 'defaultReturnTo', 'session', 'claims', 'parseClaims', 'onClaims',
  'onLogout', 'onError', 'requiredClaims', 'fetch', 'dispatcher', 'timeout', 'maxResponseBytes', 'telemetry',
  'allowInsecureLoopback'
]
const ROUTES = { login: 'login', callback: 'callback', logout: 'logout', loggedOut: 'logged-out', userinfo: 'userinfo', session: 'session' }
const SESSION_OPTIONS = [
  'key', 'secret', 'cookieName', 'maxAge', 'idleTimeout', 'sameSite', 'tokens', 'trustedOrigins'
]
const CLIENT_AUTHS = ['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'none']
const SIGNING_ALGS = [
  'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'
]
const TOKENS = ['access_token', 'refresh_token', 'id_token'] as const

// The plugin sets these itself; a caller that could set them too would take the login over (security.md S6).
export const RESERVED_PARAMS: ReadonlySet<string> = new Set([
  'client_id', 'redirect_uri', 'response_type', 'response_mode', 'scope', 'state', 'nonce', 'code_challenge',
  'code_challenge_method', 'request', 'request_uri', 'resource'
])

/** Throws FST_OIDC_OPTION for every option that is unknown, missing or wrong. */
export function parseOptions (options: OidcOptions): Settings {
  check(isRecord(options), 'the options must be an object')
  checkKeys(options, OPTIONS, '')
  const allowInsecureLoopback = bool(options.allowInsecureLoopback, false, 'allowInsecureLoopback')
  check(!allowInsecureLoopback || process.env['NODE_ENV'] !== 'production', '"allowInsecureLoopback" must not be set in production')
  const base = webUrl(options.baseUrl, 'baseUrl', allowInsecureLoopback)
  check(base.search === '', '"baseUrl" must not have a query')
  check(base.protocol === 'https:' || options.responseMode !== 'form_post', '"responseMode" form_post needs an https "baseUrl", or browsers do not send its cookie')
  return {
    provider: parseProvider('default', options, allowInsecureLoopback),
    baseUrl: base.href.replace(/\/$/, ''),
    origin: base.origin,
    routes: parseRoutes(options.routes ?? {}),
    defaultReturnTo: parseDefaultReturnTo(options.defaultReturnTo, base),
    session: parseSession(options.session, base.protocol === 'https:'),
    claims: optional(options.claims, 'claims', strings),
    parseClaims: func(options.parseClaims, 'parseClaims'),
    onClaims: func(options.onClaims, 'onClaims'),
    onLogout: func(options.onLogout, 'onLogout'),
    onError: func(options.onError, 'onError'),
    requiredClaims: optional(options.requiredClaims, 'requiredClaims', parseClaimConstraints) ?? {},
    fetch: func(options.fetch, 'fetch') ?? ((url, init) => fetch(url, init)),
    dispatcher: optional(options.dispatcher, 'dispatcher', parseDispatcher),
    timeout: number(options.timeout, 5, 'timeout', 0.001, 120),
    maxResponseBytes: number(options.maxResponseBytes, 1_048_576, 'maxResponseBytes', 1024, 64 * 1_048_576),
    telemetry: parseTelemetry(options.telemetry)
  }
}

function parseProvider (name: string, options: ProviderOptions, allowInsecureLoopback: boolean): ProviderSettings {
  check(['issuer', 'discoveryUrl', 'metadata'].some((key) => key in options), 'one of "issuer", "discoveryUrl" and "metadata" is required')
  const metadata = optional(options.metadata, 'metadata', parseMetadata)
  const url = (value: unknown, key: string): string => webUrl(value, key, allowInsecureLoopback).href
  const discoveryUrl = optional(options.discoveryUrl, 'discoveryUrl', url)
  const issuer = optional(options.issuer, 'issuer', (value, key) => issuerUrl(value, key, allowInsecureLoopback))
  const expectedIssuer = optional(options.expectedIssuer, 'expectedIssuer', text) ?? issuer ?? metadata?.issuer ?? issuerOf(discoveryUrl)
  check(expectedIssuer !== undefined, '"discoveryUrl" needs an "issuer" or "expectedIssuer" that the metadata must name')
  const clientSecret = optional(options.clientSecret, 'clientSecret', text)
  return {
    name,
    issuer: expectedIssuer,
    discoveryUrl: discoveryUrl ?? wellKnown(issuer),
    metadata,
    clientId: text(options.clientId, 'clientId'),
    clientSecret,
    clientAuth: parseClientAuth(options.clientAuth, clientSecret),
    ...parseAuthorization(options),
    responseMode: oneOf(options.responseMode ?? 'query', ['query', 'form_post'], 'responseMode'),
    idTokenSigningAlg: oneOf(options.idTokenSigningAlg ?? 'RS256', SIGNING_ALGS, 'idTokenSigningAlg'),
    trustedAudiences: optional(options.trustedAudiences, 'trustedAudiences', strings) ?? [],
    jwksUri: optional(options.jwksUri, 'jwksUri', url),
    userinfo: bool(options.userinfo, false, 'userinfo'),
    discovery: oneOf(options.discovery ?? 'lazy', ['lazy', 'eager'], 'discovery'),
    clockTolerance: number(options.clockTolerance, 30, 'clockTolerance', 0, 300),
    allowInsecureLoopback
  }
}

function parseClientAuth (value: unknown, clientSecret: string | undefined): ClientAuth {
  const clientAuth: ClientAuth = oneOf(value ?? (clientSecret === undefined ? 'none' : 'client_secret_basic'), CLIENT_AUTHS, 'clientAuth')
  check((clientAuth === 'none') === (clientSecret === undefined), `"clientSecret" does not go with "clientAuth" ${clientAuth}`)
  return clientAuth
}

function parseAuthorization (options: ProviderOptions): Pick<ProviderSettings, 'scope' | 'resource' | 'authorizationParams'> {
  const scope = optional(options.scope, 'scope', text) ?? 'openid profile email'
  check(scope.split(' ').includes('openid'), '"scope" must contain openid')
  const offlineAccess = bool(options.offlineAccess, false, 'offlineAccess')
  const audience = optional(options.audience, 'audience', text)
  return {
    scope: offlineAccess && !scope.split(' ').includes('offline_access') ? `${scope} offline_access` : scope,
    resource: optional(options.resource, 'resource', (value, key) => strings([value].flat(), key)) ?? [],
    authorizationParams: {
      ...(offlineAccess && { prompt: 'consent' }),
      ...(audience !== undefined && { audience }),
      ...parseAuthorizationParams(options.authorizationParams ?? {}, 'authorizationParams')
    }
  }
}

/** The parameters that an application may add to an authorization request. */
export function parseAuthorizationParams (value: unknown, key: string): Record<string, string> {
  check(isRecord(value), `"${key}" must be an object`)
  for (const [name, entry] of Object.entries(value)) {
    check(!RESERVED_PARAMS.has(name), `"${key}" must not set ${name}`)
    text(entry, `${key}.${name}`)
  }
  check(value['max_age'] === undefined || /^\d+$/.test(value['max_age'] as string), `"${key}.max_age" must be a number of seconds`)
  return value as Record<string, string>
}

function parseMetadata (value: unknown): ProviderMetadata {
  check(isRecord(value), '"metadata" must be an object')
  for (const key of ['issuer', 'authorization_endpoint', 'token_endpoint', 'jwks_uri']) {
    text(value[key], `metadata.${key}`)
  }
  return value as ProviderMetadata
}

function parseRoutes (options: RouteOptions): RouteSettings {
  check(isRecord(options), '"routes" must be an object')
  checkKeys(options, ['prefix', ...Object.keys(ROUTES)], 'routes.')
  const prefix = path(options.prefix ?? '/auth', 'routes.prefix')
  const routes = Object.entries(ROUTES).map(([name, standard]) => {
    const value = options[name as keyof RouteOptions] ?? standard
    return [name, value === false ? null : `${prefix}${path(value, `routes.${name}`)}`]
  })
  const settings = Object.fromEntries(routes) as RouteSettings
  check(settings.callback !== null, '"routes.callback" must not be false')
  return settings
}

function parseDefaultReturnTo (value: unknown, base: URL): string {
  const home = base.href.endsWith('/') ? base.href : `${base.href}/`
  if (value === undefined) return home
  const url = parseUrl(text(value, 'defaultReturnTo'), home)
  check(url?.origin === base.origin, '"defaultReturnTo" must be below the origin of "baseUrl"')
  return url.href
}

function parseSession (options: SessionOptions, secure: boolean): SessionSettings {
  check(isRecord(options), '"session" must be an object with a "key" or a "secret"')
  checkKeys(options, SESSION_OPTIONS, 'session.')
  const cookieName = optional(options.cookieName, 'session.cookieName', text) ?? 'oidc'
  check(/^[\w.-]{1,40}$/.test(cookieName), '"session.cookieName" must be of letters, digits, ".", "_" and "-"')
  const maxAge = number(options.maxAge, 28_800, 'session.maxAge', 1, 400 * 86_400)
  const sameSite = oneOf<SessionSettings['sameSite']>(options.sameSite ?? 'lax', ['lax', 'strict', 'none'], 'session.sameSite')
  check(sameSite !== 'none' || secure, '"session.sameSite" none needs an https "baseUrl"')
  return {
    keys: parseKeys(options),
    cookieName: secure ? `__Host-${cookieName}` : cookieName,
    secure,
    maxAge,
    idleTimeout: Math.min(number(options.idleTimeout, 3600, 'session.idleTimeout', 1, 400 * 86_400), maxAge),
    sameSite,
    tokens: new Set(strings(options.tokens ?? TOKENS, 'session.tokens').map((name) => oneOf(name, TOKENS, 'session.tokens'))),
    trustedOrigins: new Set(strings(options.trustedOrigins ?? [], 'session.trustedOrigins').map(parseOrigin))
  }
}

function parseKeys ({ key, secret }: SessionOptions): Buffer[] {
  check((key === undefined) !== (secret === undefined), '"session" must have a "key" or a "secret"')
  const keys = key !== undefined
    ? (Array.isArray(key) ? key : [key]).map(parseKey)
    : [secret].flat().map(deriveKey)
  check(keys.length > 0, '"session.key" must not be empty')
  return keys
}

function parseKey (key: SessionKey): Buffer {
  const bytes = typeof key === 'string' ? Buffer.from(key, 'base64') : Buffer.from(key)
  check(bytes.length === 32, '"session.key" must be 32 bytes, as base64 or bytes')
  return bytes
}

function deriveKey (secret: unknown): Buffer {
  check(typeof secret === 'string' && Buffer.byteLength(secret) >= 32, '"session.secret" must be at least 32 bytes')
  return Buffer.from(hkdfSync('sha256', secret, '', 'fastify-oidc session.secret', 32))
}

function parseOrigin (value: string): string {
  check(parseUrl(value)?.origin === value, '"session.trustedOrigins" must be origins, such as https://www.example.com')
  return value
}

/** Constraints on claims by path, as in `required({ claims })`. */
export function parseClaimConstraints (value: unknown, key: string): Record<string, ClaimValue | ClaimValue[]> {
  check(isRecord(value), `"${key}" must be an object`)
  for (const [path, accepted] of Object.entries(value)) {
    const values = [accepted].flat()
    check(values.length > 0 && values.every(isClaimValue), `"${key}" must give ${path} a value or values`)
  }
  return value as Record<string, ClaimValue | ClaimValue[]>
}

/** A `max_age`, in whole seconds. */
export function parseMaxAge (value: unknown): number | undefined {
  check(value === undefined || (Number.isInteger(value) && value as number >= 0), '"maxAge" must be a number of seconds')
  return value as number | undefined
}

function isClaimValue (value: unknown): value is ClaimValue {
  return ['string', 'number', 'boolean'].includes(typeof value)
}

function parseDispatcher (value: unknown): Dispatcher {
  check(isRecord(value) && typeof value['dispatch'] === 'function', '"dispatcher" must be an undici dispatcher')
  return value as unknown as Dispatcher
}

function parseTelemetry (value: unknown): Settings['telemetry'] {
  if (value === undefined || value === false) return value
  check(isRecord(value), '"telemetry" must be false or an object')
  checkKeys(value, ['tracer', 'meter'], 'telemetry.')
  return value
}

const WELL_KNOWN = '/.well-known/openid-configuration'

function wellKnown (issuer: string | undefined): string {
  return issuer === undefined ? '' : issuer.replace(/\/$/, '') + WELL_KNOWN
}

// OpenID Connect Discovery 1.0, section 4.3: the issuer is what stands before the well-known path.
function issuerOf (discoveryUrl: string | undefined): string | undefined {
  return discoveryUrl?.endsWith(WELL_KNOWN) === true ? discoveryUrl.slice(0, -WELL_KNOWN.length) : undefined
}

function issuerUrl (value: unknown, key: string, allowInsecureLoopback: boolean): string {
  const url = webUrl(value, key, allowInsecureLoopback)
  check(url.search === '', `"${key}" must not have a query`)
  return value as string
}

function webUrl (value: unknown, key: string, allowInsecureLoopback: boolean): URL {
  const url = parseUrl(text(value, key))
  check(url !== null, `"${key}" must be an absolute URL`)
  check(isSafeEndpoint(url, allowInsecureLoopback), `"${key}" must be an https URL without credentials or fragment`)
  return url
}

/** https, or http on a loopback address where that is allowed; no credentials, no fragment. */
export function isSafeEndpoint (url: URL, allowInsecureLoopback: boolean): boolean {
  const secure = url.protocol === 'https:' || (url.protocol === 'http:' && allowInsecureLoopback && isLoopback(url.hostname))
  return secure && url.username === '' && url.password === '' && url.hash === ''
}

function isLoopback (hostname: string): boolean {
  return /^(?:(?:[\w-]+\.)*localhost|127(?:\.\d+){3}|\[::1\])$/.test(hostname)
}

function parseUrl (value: string, base?: string): URL | null {
  return URL.canParse(value, base) ? new URL(value, base) : null
}

function path (value: unknown, key: string): string {
  const route = text(value, key).replace(/^\/?/, '/').replace(/\/$/, '')
  check(/^(?:\/[\w.~-]+)*$/.test(route), `"${key}" must be a plain path`)
  return route
}

function checkKeys (options: object, known: readonly string[], where: string): void {
  for (const key of Object.keys(options)) {
    check(known.includes(key), `"${where}${key}" is not an option`)
  }
}

function optional<T> (value: unknown, key: string, parse: (value: unknown, key: string) => T): T | undefined {
  return value === undefined ? undefined : parse(value, key)
}

function text (value: unknown, key: string): string {
  check(typeof value === 'string' && value !== '', `"${key}" must be a non-empty string`)
  return value
}

function strings (value: unknown, key: string): string[] {
  check(Array.isArray(value), `"${key}" must be an array of strings`)
  return value.map((entry) => text(entry, key))
}

function bool (value: unknown, standard: boolean, key: string): boolean {
  check(value === undefined || typeof value === 'boolean', `"${key}" must be true or false`)
  return value ?? standard
}

function number (value: unknown, standard: number, key: string, least: number, most: number): number {
  if (value === undefined) return standard
  check(typeof value === 'number' && value >= least && value <= most, `"${key}" must be a number from ${least} to ${most}`)
  return value
}

function func<T> (value: T, key: string): T {
  check(value === undefined || typeof value === 'function', `"${key}" must be a function`)
  return value
}

function oneOf<T extends string> (value: unknown, accepted: readonly string[], key: string): T {
  check(accepted.includes(value as string), `"${key}" must be one of ${accepted.join(', ')}`)
  return value as T
}

function isRecord (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Throws FST_OIDC_OPTION with that message unless the condition holds. */
export function check (condition: boolean, message: string): asserts condition {
  if (!condition) throw new OidcError('FST_OIDC_OPTION', { message })
}
