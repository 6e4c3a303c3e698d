import { isRecord } from '../util/json.ts'
import { check, checkKeys, path } from './check.ts'
import type { RouteOptions } from '../../types/options.ts'

/** The paths of all routes. `null`: the application has no such route. */
export interface Routes {
  /** The path below which all routes are. */
  prefix: string
  routes: RouteSettings
  tokenRoutes: TokenRouteSettings
  /** `provider` may also be `:provider`, which stands for any provider. */
  providerRoutes: (provider: string) => ProviderRouteSettings
}

export interface RouteSettings {
  login: string | null
  logout: string | null
  loggedOut: string | null
  userinfo: string | null
  session: string | null
}

/** The routes that programs call. */
export interface TokenRouteSettings {
  token: string | null
  device: string | null
  revoke: string | null
  introspect: string | null
  jwks: string | null
}

/** The routes of one provider. Each has its own callback, so that a mix-up is noticed (RFC 9700, section 4.4.2). */
export interface ProviderRouteSettings {
  login: string | null
  callback: string
  initiateLogin: string | null
  backchannelLogout: string | null
  frontchannelLogout: string | null
}

type Defaults<R> = Record<keyof R, string | false>
type Paths<R> = Record<keyof R, string | null>

const ROUTES: Defaults<RouteSettings> = {
  login: 'login',
  logout: 'logout',
  loggedOut: 'logged-out',
  userinfo: 'userinfo',
  session: 'session'
}
const BROKER_ROUTES: Defaults<TokenRouteSettings> = {
  token: 'token',
  device: 'device',
  revoke: 'revoke',
  introspect: 'introspect',
  jwks: '.well-known/jwks.json'
}
// Without a broker, the token routes pass on the provider's tokens: only an application that asks for it has them.
const NO_BROKER_ROUTES: Defaults<TokenRouteSettings> = {
  token: false,
  device: false,
  revoke: false,
  introspect: false,
  jwks: false
}
const PROVIDER_ROUTES: Defaults<ProviderRouteSettings> = {
  login: 'login',
  callback: 'callback',
  initiateLogin: false,
  backchannelLogout: 'backchannel-logout',
  frontchannelLogout: 'frontchannel-logout'
}
const OPTIONS = ['prefix', ...Object.keys({ ...ROUTES, ...BROKER_ROUTES, ...PROVIDER_ROUTES })]

export interface RouteContext {
  /** What stands before the prefix. */
  addedPrefix: string
  /** Whether there is exactly one provider: its routes need no name. */
  isSingle: boolean
  hasBroker: boolean
}

/** Throws FST_OIDC_OPTION. */
export function parseRoutes (options: RouteOptions, { addedPrefix, isSingle, hasBroker }: RouteContext): Routes {
  check(isRecord(options), '"routes" must be an object')
  checkKeys(options, OPTIONS, 'routes.')
  const prefix = addedPrefix + path(options.prefix ?? '/auth', 'routes.prefix')
  const routes = below(prefix, parsePaths(options, ROUTES))
  const tokenRoutes = below(prefix, parsePaths(options, hasBroker ? BROKER_ROUTES : NO_BROKER_ROUTES))
  checkTokenRoutes(tokenRoutes, hasBroker)
  return { prefix, routes, tokenRoutes, providerRoutes: parseProviderRoutes(options, prefix, isSingle) }
}

function parseProviderRoutes (options: RouteOptions, prefix: string, isSingle: boolean): Routes['providerRoutes'] {
  check((options.callback as unknown) !== false, '"routes.callback" must not be false')
  const paths = parsePaths(options, PROVIDER_ROUTES)
  const routesBelow = (start: string): ProviderRouteSettings => below(start, paths) as ProviderRouteSettings
  if (!isSingle) return (provider) => routesBelow(`${prefix}/${provider}`)
  const routes = routesBelow(prefix)
  return () => routes
}

function parsePaths<R> (options: RouteOptions, defaults: Defaults<R>): Paths<R> {
  const paths = Object.entries<string | false>(defaults).map(([name, fallback]) => {
    const value = options[name as keyof RouteOptions] ?? fallback
    return [name, value === false ? null : path(value, `routes.${name}`)]
  })
  return Object.fromEntries(paths) as Paths<R>
}

function below<R> (start: string, paths: Paths<R>): Paths<R> {
  const entries = Object.entries<string | null>(paths)
  return Object.fromEntries(entries.map(([name, path]) => [name, path === null ? null : start + path])) as Paths<R>
}

function checkTokenRoutes ({ token, revoke, introspect, jwks }: TokenRouteSettings, hasBroker: boolean): void {
  check(!hasBroker || token !== null, '"broker" needs "routes.token", where clients ask for its tokens')
  check(
    hasBroker || (revoke === null && introspect === null && jwks === null),
    '"routes.revoke", "routes.introspect" and "routes.jwks" are those of a "broker"'
  )
}
