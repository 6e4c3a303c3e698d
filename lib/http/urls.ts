import type { FastifyRequest } from 'fastify'
import type { Settings } from '../options/settings.ts'

/** The application's addresses as the browser sees them. They come from the options, never from a request. */
export interface Urls {
  /** The public URL of a path of the plugin. */
  route: (path: string) => string
  /** The redirect_uri of a provider. */
  callback: (provider: string) => string
  /** The login page, or `null` if there is none. */
  login: (query: LoginQuery) => string | null
  /** The metadata of the protected resource (RFC 9728). */
  resourceMetadata: string
  /** Where the routes are in the scope of the plugin: also below the path of `baseUrl`, if a proxy keeps that. */
  mounts: readonly string[]
  /**
   * The public URL of a path, as it came or as it is routed. One that begins with the path of `baseUrl` has that
   * already: the proxy, or what hosts the application, does not remove it, or removes it later.
   */
  publicUrl: (path: string) => string
  /** The public URL of a request if that is safe, else `defaultReturnTo`. */
  request: (request: FastifyRequest) => string
  /** `value` as a URL on the application's own origin if that is safe, else `null`. */
  safe: (value: unknown) => string | null
  /** The same, with `defaultReturnTo` instead of `null`. */
  returnTo: (value: unknown) => string
}

export interface LoginQuery {
  /** A URL that `returnTo` made. */
  returnTo?: string | undefined
  /** The names of the providers from which the user may choose. */
  providers?: readonly string[] | undefined
  /** What a guard demands of the login, sealed. */
  stepUp?: string | undefined
}

/** The limit for the address of a page, in characters: that of Node.js for the head of a request. */
const MAX_RETURN_TO = 16_384
/** The limit for an address in the link to the login page, in characters: that of a parameter. */
const MAX_IN_LINK = 4096
const AUTHORIZATION_SERVER = '/.well-known/oauth-authorization-server'
const RESOURCE_METADATA = '/.well-known/oauth-protected-resource'

/** `scope` is the prefix of the Fastify scope that registers the plugin. */
export function createUrls (settings: Settings, scope: string): Urls {
  const { baseUrl, origin, defaultReturnTo, loginPage, routes, providerRoutes, providers } = settings
  const prefix = scope.replace(/\/$/, '')
  const basePath = baseUrl.slice(origin.length)
  const publicUrl = (path: string): string => (isBelow(path, basePath) ? origin : baseUrl) + path
  const route = (path: string): string => publicUrl(prefix + path)
  const page = loginPage ?? (routes.login === null ? null : route(routes.login))
  // With one provider there is nothing to choose.
  const isSingle = providers.size === 1
  const safe = (value: unknown): string | null => safeUrl(value, baseUrl, origin)
  const returnTo = (value: unknown): string => safe(value) ?? defaultReturnTo
  return {
    route,
    publicUrl,
    mounts: prefix === '' && basePath !== '' ? ['', basePath] : [''],
    callback: (provider) => route(providerRoutes(provider).callback),
    login (query) {
      if (page === null) return null
      return withQuery(page, isSingle ? { ...query, providers: undefined } : query)
    },
    resourceMetadata: route(wellKnown(RESOURCE_METADATA, settings, resourceOf(settings), prefix)),
    request: ({ originalUrl }) => originalUrl.startsWith('/') ? returnTo(publicUrl(originalUrl)) : defaultReturnTo,
    safe,
    returnTo
  }
}

function isBelow (path: string, basePath: string): boolean {
  return path.startsWith(basePath) && /^(?:[/?]|$)/.test(path.slice(basePath.length))
}

/** The paths at which the application serves the metadata of the protected resource. */
export function resourceMetadataPaths (settings: Settings, prefix: string): Set<string> {
  return new Set([RESOURCE_METADATA, wellKnown(RESOURCE_METADATA, settings, resourceOf(settings), prefix)])
}

/** The paths at which the application serves the metadata of the broker (RFC 8414, section 3). */
export function authorizationServerPaths (settings: Settings, issuer: string, prefix: string): Set<string> {
  return new Set([AUTHORIZATION_SERVER, wellKnown(AUTHORIZATION_SERVER, settings, issuer, prefix)])
}

function resourceOf ({ bearer, baseUrl }: Settings): string {
  return bearer?.resource ?? baseUrl
}

// RFC 9728, section 3.1, and RFC 8414, section 3.1: the well-known path stands before the path of the identifier.
// An application that has only a part of the host cannot serve that URL. Its metadata is at the well-known path below
// its own address.
function wellKnown (path: string, { baseUrl, origin }: Settings, identifier: string, prefix: string): string {
  const url = new URL(identifier)
  const hasWholeHost = url.origin === origin && baseUrl === origin && prefix === ''
  return hasWholeHost ? path + url.pathname.replace(/\/$/, '') : path
}

function withQuery (page: string, { returnTo, providers, stepUp }: LoginQuery): string {
  const query = new URLSearchParams({
    ...(returnTo !== undefined && { return_to: linkable(returnTo) }),
    ...(providers !== undefined && { provider: providers.join(' ') }),
    ...(stepUp !== undefined && { step_up: stepUp })
  })
  return query.size === 0 ? page : `${page}${page.includes('?') ? '&' : '?'}${query.toString()}`
}

function linkable (returnTo: string): string {
  return returnTo.length <= MAX_IN_LINK ? returnTo : returnTo.replace(/[?#].*/, '')
}

/**
 * `value` as an absolute URL if a browser would stay on the origin with it and with its serialized form,
 * else `null`.
 */
export function safeUrl (value: unknown, baseUrl: string, origin: string): string | null {
  if (typeof value !== 'string' || value.length > MAX_RETURN_TO || isMisread(value)) return null
  const href = resolve(value, `${baseUrl}/`, origin)
  if (href === null || href.length > MAX_RETURN_TO) return null
  // A path such as `/.//host` is safe within its URL, but leads to another host when it is used alone.
  return resolve(new URL(href).pathname, origin, origin) === null ? null : href
}

function resolve (value: string, base: string, origin: string): string | null {
  if (!URL.canParse(value, base)) return null
  const { href } = new URL(value, base)
  // Not `url.origin`: a blob URL has the origin of the URL inside it. This also refuses credentials.
  return href.startsWith(`${origin}/`) ? href : null
}

// Parsers of URLs remove control characters, and read a backslash in the path as a slash.
function isMisread (value: string): boolean {
  // eslint-disable-next-line no-control-regex
  return /[\u0000-\u001f\u007f]|^[^?#]*\\/.test(value)
}
