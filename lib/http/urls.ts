import type { FastifyRequest } from 'fastify'
import type { Settings } from '../options/settings.ts'

/** The addresses of the application, as the browser sees them: they come from the options, never from a request. */
export interface Urls {
  /** The public URL of one of the plugin's routes. */
  route: (path: string) => string
  /** The redirect_uri of a provider. */
  callback: (provider: string) => string
  /** The login page, or that of one provider; `null` when there is none. */
  login: (query: LoginQuery) => string | null
  /** Where the metadata of the protected resource is (RFC 9728). */
  resourceMetadata: string
  /** The public URL of a request, when it is a safe one, else `defaultReturnTo`. */
  request: (request: FastifyRequest) => string
  /** A URL on the application's own origin: `value` when it is a safe one, else `defaultReturnTo`. */
  returnTo: (value: unknown) => string
}

export interface LoginQuery {
  /** A URL that `returnTo` made. */
  returnTo?: string | undefined
  /** The names of the providers that will do. */
  providers?: readonly string[] | undefined
}

// Longer than this does not fit into the cookie of a pending login.
const MAX_RETURN_TO = 2000

export function createUrls (settings: Settings, prefix: string): Urls {
  const { baseUrl, origin, defaultReturnTo, loginPage, routes, providerRoutes, providers: all } = settings
  const route = (path: string): string => baseUrl + prefix + path
  const page = loginPage ?? (routes.login === null ? null : route(routes.login))
  const returnTo: Urls['returnTo'] = (value) => safeUrl(value, baseUrl, origin) ?? defaultReturnTo
  return {
    route,
    callback: (provider) => route(providerRoutes(provider).callback),
    login: ({ returnTo, providers }) =>
      page === null ? null : withQuery(page, { returnTo, ...(all.size !== 1 && { providers }) }),
    resourceMetadata: route(wellKnown(RESOURCE_METADATA, settings, resourceOf(settings), prefix)),
    request: ({ originalUrl }) => originalUrl.startsWith('/') ? returnTo(baseUrl + originalUrl) : defaultReturnTo,
    returnTo
  }
}

const AUTHORIZATION_SERVER = '/.well-known/oauth-authorization-server'
const RESOURCE_METADATA = '/.well-known/oauth-protected-resource'

/** The paths below the application that the metadata of the protected resource is served at. */
export function resourceMetadataPaths (settings: Settings, prefix: string): Set<string> {
  return new Set([RESOURCE_METADATA, wellKnown(RESOURCE_METADATA, settings, resourceOf(settings), prefix)])
}

/** The paths below the application that the metadata of the broker is served at (RFC 8414, section 3). */
export function authorizationServerPaths (settings: Settings, issuer: string, prefix: string): Set<string> {
  return new Set([AUTHORIZATION_SERVER, wellKnown(AUTHORIZATION_SERVER, settings, issuer, prefix)])
}

function resourceOf ({ bearer, baseUrl }: Settings): string {
  return bearer?.resource ?? baseUrl
}

// RFC 9728, section 3.1, and RFC 8414, section 3.1: the well-known path stands before that of what it is
// about. Where this
// application does not have the whole host, it cannot serve that, and the challenge names the address that it can.
function wellKnown (path: string, { baseUrl, origin }: Settings, about: string, prefix: string): string {
  const url = new URL(about)
  return url.origin === origin && baseUrl === origin && prefix === '' ? path + url.pathname.replace(/\/$/, '') : path
}

function withQuery (page: string, { returnTo, providers }: LoginQuery): string {
  const query = new URLSearchParams({
    ...(returnTo !== undefined && { return_to: returnTo }),
    ...(providers !== undefined && { provider: providers.join(' ') })
  })
  return query.size === 0 ? page : `${page}${page.includes('?') ? '&' : '?'}${query.toString()}`
}

/**
 * The absolute URL, when it and its written form lead to the given origin as a browser reads them
 * (security.md S48).
 */
export function safeUrl (value: unknown, baseUrl: string, origin: string): string | null {
  if (typeof value !== 'string' || value.length > MAX_RETURN_TO || hasControlCharacter(value)) return null
  const href = resolve(value, `${baseUrl}/`, origin)
  // The written form is read again: a path such as `/.//host` becomes another host when it stands alone.
  return href !== null && href.length <= MAX_RETURN_TO && resolve(new URL(href).pathname, origin, origin) !== null
    ? href
    : null
}

function resolve (value: string, base: string, origin: string): string | null {
  if (!URL.canParse(value, base)) return null
  const { href } = new URL(value, base)
  // Not `url.origin`: that of a blob URL is the one inside it. Credentials would stand before the host.
  return href.startsWith(`${origin}/`) ? href : null
}

function hasControlCharacter (value: string): boolean {
  // eslint-disable-next-line no-control-regex
  return /[\u0000-\u001f\u007f\\]/.test(value)
}
