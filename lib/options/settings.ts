import { hash, hkdfSync } from 'node:crypto'
import {
  bool, check, checkKeys, func, isRecord, number, oneOf, optional, parseUrl, path, strings, text, webUrl
} from './check.ts'
import {
  PROVIDER_OPTIONS, isProviderName, parseLoginParams, parseProvider, parseTransport, within
} from './provider.ts'
import { parseBearer } from './bearer.ts'
import { parseBroker } from './broker.ts'
import type { BrokerSettings } from './broker.ts'
import type { BearerSettings } from './bearer.ts'
import type { ProviderSettings, Surroundings, TransportSettings } from './provider.ts'
import type { Store } from '../../types/store.ts'
import type {
  ClaimValue, OidcOptions, ProviderOptions, RouteOptions, SessionKey, SessionOptions
} from '../../types/options.ts'

export interface RouteSettings {
  login: string | null
  logout: string | null
  loggedOut: string | null
  userinfo: string | null
  session: string | null
}

/** The routes for programs. */
export interface TokenRouteSettings {
  token: string | null
  device: string | null
  revoke: string | null
  introspect: string | null
  jwks: string | null
}

/**
 * The routes that each provider has for itself: whose callback it is tells whose answer it is (RFC 9700,
 * section 4.4.2).
 */
export interface ProviderRouteSettings {
  login: string | null
  callback: string
  initiateLogin: string | null
  backchannelLogout: string | null
  frontchannelLogout: string | null
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
  /** Whether sessions are in the store. */
  inStore: boolean
  /** In seconds. */
  recheckAfter: number
}

/** Every option checked and every default filled in: below this nothing is checked or defaulted again. */
export interface Settings {
  /** By name; empty where `resolveProvider` finds them. */
  providers: ReadonlyMap<string, ProviderSettings>
  resolveProvider: OidcOptions['resolveProvider']
  /** The settings of a provider that is known only at run time. Throws FST_OIDC_OPTION. */
  parseProvider: (name: string, options: unknown) => ProviderSettings
  /** In seconds. */
  resolveMaxAge: number
  store: Store | string | undefined
  /** Which access tokens are taken; `undefined`: none are looked at. */
  bearer: BearerSettings | undefined
  /** How this application issues tokens of its own; `undefined`: not at all. */
  broker: BrokerSettings | undefined
  /** How other instances are called. */
  transport: TransportSettings
  tokenRoutes: TokenRouteSettings
  roleClaims: string[]
  /** Without a trailing slash. */
  baseUrl: string
  origin: string
  /** The path below which all the routes are. */
  prefix: string
  routes: RouteSettings
  /** Of a provider, or with `:provider` of all of them. */
  providerRoutes: (provider: string) => ProviderRouteSettings
  loginPage: string | null
  loginParams: readonly string[]
  defaultReturnTo: string
  session: SessionSettings
  claims: readonly string[] | undefined
  parseClaims: OidcOptions['parseClaims']
  onClaims: OidcOptions['onClaims']
  onLogout: OidcOptions['onLogout']
  onError: OidcOptions['onError']
  requiredClaims: Record<string, ClaimValue | ClaimValue[]>
  telemetry: OidcOptions['telemetry']
}

const OPTIONS = [
  ...PROVIDER_OPTIONS, 'providers', 'resolveProvider', 'resolveMaxAge', 'baseUrl', 'routes', 'loginPage',
  'loginParams', 'defaultReturnTo', 'store', 'session', 'claims', 'parseClaims', 'onClaims', 'onLogout',
  'onError', 'requiredClaims', 'bearer', 'broker', 'roleClaims', 'telemetry', 'allowInsecureLoopback'
]
/** Where the one provider is; with several, each says so for itself. */
const PLACES = ['issuer', 'discoveryUrl', 'metadata', 'expectedIssuer', 'jwksUri', 'label']
const ROUTES = { login: 'login', logout: 'logout', loggedOut: 'logged-out', userinfo: 'userinfo', session: 'session' }
const TOKEN_ROUTES = {
  token: 'token',
  device: 'device',
  revoke: 'revoke',
  introspect: 'introspect',
  jwks: '.well-known/jwks.json'
}
// Without a broker the application says so when it lends its client to others.
const NO_TOKEN_ROUTES = { token: false, device: false, revoke: false, introspect: false, jwks: false } as const
const PROVIDER_ROUTES: Record<string, string | false> = {
  login: 'login',
  callback: 'callback',
  initiateLogin: false,
  backchannelLogout: 'backchannel-logout',
  frontchannelLogout: 'frontchannel-logout'
}
const SESSION_OPTIONS = [
  'key', 'secret', 'cookieName', 'maxAge', 'idleTimeout', 'sameSite', 'tokens', 'trustedOrigins', 'store',
  'recheckAfter'
]
const ROLE_CLAIMS = ['roles', 'groups', 'realm_access.roles', 'resource_access.{clientId}.roles']
const STORE_VERBS = ['get', 'set', 'create', 'replace', 'has', 'take', 'list', 'purge', 'close']
const TOKENS = ['access_token', 'refresh_token', 'id_token'] as const

/**
 * Throws FST_OIDC_OPTION for every option that is unknown, missing or wrong. `scope` is the prefix of the
 * scope that registers the plugin.
 */
export function parseOptions (options: OidcOptions, scope = ''): Settings {
  check(isRecord(options), 'the options must be an object')
  checkKeys(options, OPTIONS, '')
  const allowInsecureLoopback = bool(options.allowInsecureLoopback, false, 'allowInsecureLoopback')
  check(
    !allowInsecureLoopback || process.env['NODE_ENV'] !== 'production',
    '"allowInsecureLoopback" must not be set in production'
  )
  const base = webUrl(options.baseUrl, 'baseUrl', allowInsecureLoopback)
  check(base.search === '', '"baseUrl" must not have a query')
  const secure = base.protocol === 'https:'
  const routes = parseRoutes(options.routes ?? {}, isSingle(options), options.broker !== undefined)
  const store = optional(options.store, 'store', parseStore)
  const providers = parseProviders(options, { secure, allowInsecureLoopback })
  const baseUrl = base.href.replace(/\/$/, '')
  const broker = optional(options.broker, 'broker', (value) =>
    parseBroker(value, { baseUrl, prefix: routes.prefix, allowInsecureLoopback })
  )
  check(broker === undefined || store !== undefined, '"broker" needs a "store", where its keys and grants are')
  const bearerOptions = options.bearer ?? (broker === undefined ? undefined : { audience: broker.audience })
  const bearer = optional(bearerOptions, 'bearer', (value) =>
    parseBearer(value, {
      ofProviders: options.bearer !== undefined,
      baseUrl,
      allowInsecureLoopback,
      providers: providers.providers
    })
  )
  checkIssuers(broker, providers.providers)
  return {
    ...providers,
    parseProvider: (name, own) => notReserved(providers.parseProvider(name, own), broker),
    baseUrl,
    broker,
    transport: parseTransport(options as ProviderOptions),
    bearer,
    roleClaims: strings(options.roleClaims ?? ROLE_CLAIMS, 'roleClaims'),
    origin: base.origin,
    store,
    ...routes,
    prefix: scope + routes.prefix,
    loginPage: optional(options.loginPage, 'loginPage', (value, key) => ownUrl(value, key, base)) ?? null,
    loginParams: optional(options.loginParams, 'loginParams', parseLoginParams) ?? [],
    defaultReturnTo:
      optional(options.defaultReturnTo, 'defaultReturnTo', (value, key) => ownUrl(value, key, base)) ?? homeOf(base),
    session: parseSession(options.session, secure, usualCookieName(scope + routes.prefix), store !== undefined),
    claims: optional(options.claims, 'claims', strings),
    parseClaims: func(options.parseClaims, 'parseClaims'),
    onClaims: func(options.onClaims, 'onClaims'),
    onLogout: func(options.onLogout, 'onLogout'),
    onError: func(options.onError, 'onError'),
    requiredClaims: optional(options.requiredClaims, 'requiredClaims', parseClaimConstraints) ?? {},
    telemetry: parseTelemetry(options.telemetry)
  }
}

// Whose token it is must be clear from its issuer (security.md V19).
function checkIssuers (broker: BrokerSettings | undefined, providers: ReadonlyMap<string, ProviderSettings>): void {
  if (broker === undefined) return
  const peers = broker.trustedIssuers.map(({ issuer }) => issuer)
  const others = [...peers, ...[...providers.values()].map(({ issuer }) => issuer)]
  check(!others.includes(broker.issuer), '"broker.issuer" must be that of nobody else')
  check(
    peers.every((issuer) => others.filter((other) => other === issuer).length === 1),
    '"broker.trustedIssuers" must name each issuer once, and no provider'
  )
}

// The same for a provider that is known only at run time.
function notReserved (provider: ProviderSettings, broker: BrokerSettings | undefined): ProviderSettings {
  const isReserved =
    broker !== undefined && [broker, ...broker.trustedIssuers].some(({ issuer }) => issuer === provider.issuer)
  check(!isReserved, '"issuer" must be neither that of the broker nor one of its "trustedIssuers"')
  return provider
}

function isSingle (options: OidcOptions): boolean {
  return options.providers === undefined && options.resolveProvider === undefined
}

function parseProviders (
  options: OidcOptions,
  surroundings: Surroundings
): Pick<Settings, 'providers' | 'resolveProvider' | 'parseProvider' | 'resolveMaxAge'> {
  const { providers, resolveProvider } = options
  check(
    providers === undefined || resolveProvider === undefined,
    '"providers" and "resolveProvider" do not go together'
  )
  const misplaced = PLACES.find((key) => !isSingle(options) && key in options)
  check(misplaced === undefined, `"${String(misplaced)}" belongs to one provider`)
  const shared = Object.fromEntries(Object.entries(options).filter(([key]) => PROVIDER_OPTIONS.includes(key)))
  const parse = (name: string, own: unknown): ProviderSettings => within(`providers.${name}`, () => {
    check(isProviderName(name), 'the name must be of letters, digits, ".", "_" and "-"')
    check(isRecord(own), 'the options must be an object')
    checkKeys(own, PROVIDER_OPTIONS, '')
    return parseProvider(name, { ...shared, ...own } as ProviderOptions, surroundings)
  })
  return {
    providers: isSingle(options)
      ? new Map([['default', parseProvider('default', options as ProviderOptions, surroundings)]])
      : new Map(Object.entries(parseNames(providers)).map(([name, own]) => [name, parse(name, own)])),
    resolveProvider: func(resolveProvider, 'resolveProvider'),
    parseProvider: parse,
    resolveMaxAge: number(options.resolveMaxAge, 60, 'resolveMaxAge', 0, 86_400)
  }
}

function parseNames (providers: unknown): Record<string, unknown> {
  if (providers === undefined) return {}
  check(
    isRecord(providers) && Object.keys(providers).length > 0,
    '"providers" must be an object with a member for each provider'
  )
  return providers
}

// Scopes that stand side by side must not overwrite each other's cookies.
function usualCookieName (prefix: string): string {
  const name = `oidc${prefix.replace(/\/auth$/, '').replace(/[^\w-]+/g, '.')}`
  return name.length <= 40 ? name : `oidc.${hash('sha256', prefix, 'hex').slice(0, 32)}`
}

function parseRoutes (
  options: RouteOptions,
  single: boolean,
  hasBroker: boolean
): Pick<Settings, 'prefix' | 'routes' | 'tokenRoutes' | 'providerRoutes'> {
  check(isRecord(options), '"routes" must be an object')
  checkKeys(options, ['prefix', ...Object.keys({ ...ROUTES, ...TOKEN_ROUTES, ...PROVIDER_ROUTES })], 'routes.')
  const prefix = path(options.prefix ?? '/auth', 'routes.prefix')
  const pathsOf = (standards: Record<string, string | false>): Array<[name: string, path: string | null]> =>
    Object.entries(standards).map(([name, standard]) => {
      const value = options[name as keyof RouteOptions] ?? standard
      return [name, value === false ? null : path(value, `routes.${name}`)]
    })
  const below = (start: string, paths: ReturnType<typeof pathsOf>): object =>
    Object.fromEntries(paths.map(([name, path]) => [name, path === null ? null : start + path]))
  check((options.callback as unknown) !== false, '"routes.callback" must not be false')
  const providerPaths = pathsOf(PROVIDER_ROUTES)
  const providerRoutesBelow = (start: string): ProviderRouteSettings =>
    below(start, providerPaths) as ProviderRouteSettings
  const only = providerRoutesBelow(prefix)
  const providerRoutes: Settings['providerRoutes'] = (provider) =>
    single ? only : providerRoutesBelow(`${prefix}/${provider}`)
  const tokenRoutes = below(prefix, pathsOf(hasBroker ? TOKEN_ROUTES : NO_TOKEN_ROUTES)) as TokenRouteSettings
  check(!hasBroker || tokenRoutes.token !== null, '"broker" needs "routes.token", where its tokens are asked for')
  check(
    hasBroker ||
      ['revoke', 'introspect', 'jwks'].every((name) => tokenRoutes[name as keyof TokenRouteSettings] === null),
    '"routes.revoke", "routes.introspect" and "routes.jwks" are those of a "broker"'
  )
  return { prefix, routes: below(prefix, pathsOf(ROUTES)) as RouteSettings, tokenRoutes, providerRoutes }
}

function homeOf (base: URL): string {
  return base.href.endsWith('/') ? base.href : `${base.href}/`
}

function ownUrl (value: unknown, key: string, base: URL): string {
  const url = parseUrl(text(value, key), homeOf(base))
  check(url?.origin === base.origin, `"${key}" must be below the origin of "baseUrl"`)
  return url.href
}

function parseSession (
  options: SessionOptions,
  secure: boolean,
  usualName: string,
  hasStore: boolean
): SessionSettings {
  check(isRecord(options), '"session" must be an object with a "key" or a "secret"')
  checkKeys(options, SESSION_OPTIONS, 'session.')
  const cookieName = optional(options.cookieName, 'session.cookieName', text) ?? usualName
  check(/^[\w.-]{1,40}$/.test(cookieName), '"session.cookieName" must be of letters, digits, ".", "_" and "-"')
  const maxAge = number(options.maxAge, 28_800, 'session.maxAge', 1, 400 * 86_400)
  check(Number.isInteger(maxAge), '"session.maxAge" must be whole seconds')
  const sameSite = oneOf<SessionSettings['sameSite']>(
    options.sameSite ?? 'lax',
    ['lax', 'strict', 'none'],
    'session.sameSite'
  )
  check(sameSite !== 'none' || secure, '"session.sameSite" none needs an https "baseUrl"')
  check(options.store !== true || hasStore, '"session.store" needs a "store"')
  return {
    keys: parseKeys(options),
    cookieName: secure ? `__Host-${cookieName}` : cookieName,
    secure,
    maxAge,
    idleTimeout: Math.min(number(options.idleTimeout, 3600, 'session.idleTimeout', 1, 400 * 86_400), maxAge),
    sameSite,
    tokens: new Set(
      strings(options.tokens ?? TOKENS, 'session.tokens').map((name) => oneOf(name, TOKENS, 'session.tokens'))
    ),
    trustedOrigins: new Set(strings(options.trustedOrigins ?? [], 'session.trustedOrigins').map(parseOrigin)),
    inStore: bool(options.store, false, 'session.store'),
    recheckAfter: number(options.recheckAfter, 0, 'session.recheckAfter', 0, 3600)
  }
}

function parseStore (value: unknown, key: string): Store | string {
  const isStore =
    typeof value === 'string'
      ? value !== ''
      : isRecord(value) && STORE_VERBS.every((verb) => typeof value[verb] === 'function')
  check(isStore, `"${key}" must be a Store or the address of one`)
  return value as Store | string
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
  check(
    value === undefined || (Number.isInteger(value) && (value as number) >= 0),
    '"maxAge" must be a number of seconds'
  )
  return value as number | undefined
}

function isClaimValue (value: unknown): value is ClaimValue {
  return ['string', 'number', 'boolean'].includes(typeof value)
}

function parseTelemetry (value: unknown): Settings['telemetry'] {
  if (value === undefined || value === false) return value
  check(isRecord(value), '"telemetry" must be false or an object')
  checkKeys(value, ['tracer', 'meter'], 'telemetry.')
  return value
}
