import type { RouteOptions } from '../../types/options.ts'
import { isRecord } from '../util/json.ts'
import { check, checkKeys, path } from './check.ts'
import type { Settings } from './settings.ts'

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

export const ROUTES = {
  login: 'login',
  logout: 'logout',
  loggedOut: 'logged-out',
  userinfo: 'userinfo',
  session: 'session'
}
export const TOKEN_ROUTES = {
  token: 'token',
  device: 'device',
  revoke: 'revoke',
  introspect: 'introspect',
  jwks: '.well-known/jwks.json'
}

// Without a broker the application says so when it lends its client to others.
export const NO_TOKEN_ROUTES = { token: false, device: false, revoke: false, introspect: false, jwks: false } as const
export const PROVIDER_ROUTES: Record<string, string | false> = {
  login: 'login',
  callback: 'callback',
  initiateLogin: false,
  backchannelLogout: 'backchannel-logout',
  frontchannelLogout: 'frontchannel-logout'
}

export function parseRoutes (
  options: RouteOptions,
  single: boolean,
  hasBroker: boolean): Pick<Settings, 'prefix' | 'routes' | 'tokenRoutes' | 'providerRoutes'> {
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
