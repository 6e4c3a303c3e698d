import { hash } from 'node:crypto'
import {
  bool, check, checkKeys, func, number, optional, strings, text, webUrl
} from './check.ts'
import { parseUrl } from '../util/url.ts'
import { isRecord } from '../util/json.ts'
import {
  PROVIDER_OPTIONS, isProviderName, parseLoginParams, parseProvider, parseTransport, within
} from './provider.ts'
import { parseBearer } from './bearer.ts'
import { parseBroker } from './broker.ts'
import type { BrokerSettings } from './broker.ts'
import type { BearerSettings } from './bearer.ts'
import type { ProviderSettings, ParseContext, TransportSettings } from './provider.ts'
import type { Store } from '../../types/store.ts'
import type { ClaimValue, OidcOptions, ProviderOptions } from '../../types/options.ts'
import { parseRoutes } from './routes.ts'
import { parseSession } from './session.ts'
import type { ProviderRouteSettings, RouteSettings, TokenRouteSettings } from './routes.ts'
import type { SessionSettings } from './session.ts'
import { parseClaimConstraints } from './constraints.ts'

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
const SINGLE_PROVIDER_OPTIONS = ['issuer', 'discoveryUrl', 'metadata', 'expectedIssuer', 'jwksUri', 'label']
const ROLE_CLAIMS = ['roles', 'groups', 'realm_access.roles', 'resource_access.{clientId}.roles']
const STORE_VERBS = ['get', 'set', 'create', 'replace', 'has', 'take', 'list', 'purge', 'close']
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
  surroundings: ParseContext
): Pick<Settings, 'providers' | 'resolveProvider' | 'parseProvider' | 'resolveMaxAge'> {
  const { providers, resolveProvider } = options
  check(
    providers === undefined || resolveProvider === undefined,
    '"providers" and "resolveProvider" do not go together'
  )
  const misplaced = SINGLE_PROVIDER_OPTIONS.find((key) => !isSingle(options) && key in options)
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

function homeOf (base: URL): string {
  return base.href.endsWith('/') ? base.href : `${base.href}/`
}

function ownUrl (value: unknown, key: string, base: URL): string {
  const url = parseUrl(text(value, key), homeOf(base))
  check(url?.origin === base.origin, `"${key}" must be below the origin of "baseUrl"`)
  return url.href
}

function parseStore (value: unknown, key: string): Store | string {
  const isStore =
    typeof value === 'string'
      ? value !== ''
      : isRecord(value) && STORE_VERBS.every((verb) => typeof value[verb] === 'function')
  check(isStore, `"${key}" must be a Store or the address of one`)
  return value as Store | string
}

function parseTelemetry (value: unknown): Settings['telemetry'] {
  if (value === undefined || value === false) return value
  check(isRecord(value), '"telemetry" must be false or an object')
  checkKeys(value, ['tracer', 'meter'], 'telemetry.')
  return value
}
