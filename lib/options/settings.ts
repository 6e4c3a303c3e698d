import { isRecord } from '../util/json.ts'
import { parseLoginParams } from './authorization-params.ts'
import { parseBearer } from './bearer.ts'
import { parseBroker } from './broker.ts'
import { check, checkKeys, checkSet, optional, strings } from './check.ts'
import { parseClaimConstraints } from './constraints.ts'
import { ownUrl, parseContext } from './context.ts'
import { parsePages } from './pages.ts'
import { PROVIDER_OPTIONS } from './provider.ts'
import { checkAccessTokens, checkIssuers, checkResolvedIssuer, isSingleProvider, parseProviders } from './providers.ts'
import { checkFixed, parseRegistration, REGISTRATION_OPTIONS } from './registration.ts'
import { parseRoutes } from './routes.ts'
import { parseSession } from './session.ts'
import { parseTransport } from './transport.ts'
import type { BearerSettings } from './bearer.ts'
import type { BrokerSettings } from './broker.ts'
import type { ParseContext, ParseHook } from './context.ts'
import type { PageSettings } from './pages.ts'
import type { ProvidersSettings } from './providers.ts'
import type { RegistrationSettings } from './registration.ts'
import type { Routes } from './routes.ts'
import type { SessionSettings } from './session.ts'
import type { TransportSettings } from './transport.ts'
import type { ClaimValue, OidcOptions, ProviderOptions } from '../../types/options.ts'
import type { Store } from '../../types/store.ts'

/** Every option, checked and complete: no other code checks an option or fills in a default. */
export interface Settings extends ProvidersSettings, Routes {
  /** Without a trailing slash. */
  baseUrl: string
  origin: string
  loginPage: string | null
  loginParams: readonly string[]
  defaultReturnTo: string
  store: Store | string | undefined
  session: SessionSettings
  claims: readonly string[] | undefined
  parseClaims: OidcOptions['parseClaims']
  onClaims: OidcOptions['onClaims']
  onLogout: OidcOptions['onLogout']
  onError: OidcOptions['onError']
  /** For the hooks that are given later. */
  parseHook: ParseHook
  pages: PageSettings
  requiredClaims: Record<string, ClaimValue | ClaimValue[]>
  roleClaims: string[]
  /** Which access tokens are accepted. `undefined`: the application does not look at them. */
  bearer: BearerSettings | undefined
  /** How the application issues its own tokens. `undefined`: it issues none. */
  broker: BrokerSettings | undefined
  /** How the application calls trusted issuers. */
  transport: TransportSettings
  telemetry: OidcOptions['telemetry']
  routeLog: RegistrationSettings['routeLog']
}

const OPTIONS = [
  ...REGISTRATION_OPTIONS, ...PROVIDER_OPTIONS, 'providers', 'resolveProvider', 'resolveMaxAge', 'baseUrl', 'routes', 'loginPage',
  'loginParams', 'defaultReturnTo', 'store', 'session', 'claims', 'parseClaims', 'onClaims', 'onLogout',
  'onError', 'hookTimeout', 'pages', 'requiredClaims', 'bearer', 'broker', 'roleClaims', 'telemetry', 'allowInsecureLoopback'
]
const ROLE_CLAIMS = ['roles', 'groups', 'realm_access.roles', 'resource_access.{clientId}.roles']
const STORE_METHODS = ['get', 'set', 'create', 'replace', 'has', 'take', 'list', 'purge', 'close']

/**
 * Throws FST_OIDC_OPTION if an option is unknown, missing or wrong. `scope` is the prefix of the Fastify scope that
 * registers the plugin.
 */
export function parseOptions (options: OidcOptions, scope = ''): Settings {
  check(isRecord(options), 'the options must be an object')
  checkFixed(scope, `the plugin is registered below the prefix ${scope}, and`)
  checkKeys(options, OPTIONS, '')
  const context = parseContext(options)
  checkFixed(new URL(context.baseUrl).pathname, '"baseUrl"')
  const { addedPrefix, routeLog } = parseRegistration(options)
  const routes = parseRoutes(options.routes ?? {}, {
    addedPrefix,
    isSingle: isSingleProvider(options),
    hasBroker: options.broker !== undefined
  })
  const prefix = scope + routes.prefix
  const store = optional(options.store, 'store', parseStore)
  const hasStore = store !== undefined
  const needsStore = [options.broker && 'broker', options.session?.store === true && 'session.store'].find(Boolean)
  if (needsStore && 'store' in options) checkSet(store, 'store', ` "${needsStore}" needs a "store"`)
  const providers = parseProviders(options, context)
  const tokens = parseTokenOptions(options, context, { prefix: routes.prefix, hasStore, providers })
  return {
    ...tokens,
    ...routes,
    prefix,
    baseUrl: context.baseUrl,
    origin: context.origin,
    ...parseLoginOptions(options, context),
    store,
    session: parseSession(options.session, { baseUrl: context.baseUrl, secure: context.secure, prefix, hasStore }),
    ...parseClaimsOptions(options, context),
    onLogout: context.hook(options.onLogout, 'onLogout'),
    onError: context.hook(options.onError, 'onError'),
    parseHook: context.hook,
    pages: parsePages(options.pages, context),
    transport: parseTransport(options as ProviderOptions),
    telemetry: parseTelemetry(options.telemetry),
    routeLog
  }
}

interface TokenContext {
  prefix: string
  hasStore: boolean
  providers: ProvidersSettings
}

/** Who issues tokens, and which tokens are accepted. */
function parseTokenOptions (
  options: OidcOptions,
  context: ParseContext,
  { prefix, hasStore, providers }: TokenContext
): ProvidersSettings & Pick<Settings, 'broker' | 'bearer'> {
  const broker = options.broker === undefined ? undefined : parseBroker(options.broker, { ...context, prefix })
  check(broker === undefined || hasStore, '"broker" needs a "store", where it keeps its keys and grants')
  // An application that issues tokens accepts them.
  const bearerOptions = options.bearer ?? (broker === undefined ? undefined : { audience: broker.audience })
  const ofProviders = options.bearer !== undefined
  const names = [...providers.providers.keys()]
  const bearer = optional(bearerOptions, 'bearer', (value) =>
    parseBearer(value, { ...context, ofProviders, providers: names })
  )
  if (ofProviders) checkAccessTokens(providers.providers)
  if (broker === undefined) return { ...providers, broker, bearer }
  checkIssuers(broker, providers.providers)
  return { ...providers, parseProvider: withIssuerCheck(providers.parseProvider, broker), broker, bearer }
}

function withIssuerCheck (
  parseProvider: ProvidersSettings['parseProvider'],
  broker: BrokerSettings
): ProvidersSettings['parseProvider'] {
  return (name, options) => {
    const provider = parseProvider(name, options)
    checkResolvedIssuer(broker, provider)
    return provider
  }
}

function parseLoginOptions (
  options: OidcOptions,
  context: ParseContext
): Pick<Settings, 'loginPage' | 'loginParams' | 'defaultReturnTo'> {
  const parseUrl = (value: unknown, key: string): string => ownUrl(value, key, context)
  return {
    loginPage: optional(options.loginPage, 'loginPage', parseUrl) ?? null,
    loginParams: optional(options.loginParams, 'loginParams', parseLoginParams) ?? [],
    defaultReturnTo: optional(options.defaultReturnTo, 'defaultReturnTo', parseUrl) ?? `${context.baseUrl}/`
  }
}

function parseClaimsOptions (
  options: OidcOptions,
  { hook }: Pick<ParseContext, 'hook'>
): Pick<Settings, 'claims' | 'parseClaims' | 'onClaims' | 'requiredClaims' | 'roleClaims'> {
  return {
    claims: optional(options.claims, 'claims', strings),
    parseClaims: hook(options.parseClaims, 'parseClaims'),
    onClaims: hook(options.onClaims, 'onClaims'),
    requiredClaims: optional(options.requiredClaims, 'requiredClaims', parseClaimConstraints) ?? {},
    roleClaims: strings(options.roleClaims ?? ROLE_CLAIMS, 'roleClaims')
  }
}

function parseStore (value: unknown, key: string): Store | string {
  checkSet(value, key)
  const isStore = typeof value === 'string' ||
    (isRecord(value) && STORE_METHODS.every((method) => typeof value[method] === 'function'))
  check(isStore, `"${key}" must be a Store or the address of one`)
  return value as Store | string
}

function parseTelemetry (value: unknown): Settings['telemetry'] {
  if (value === undefined || value === false) return value
  check(isRecord(value), '"telemetry" must be false or an object')
  checkKeys(value, ['tracer', 'meter'], 'telemetry.')
  return value
}
