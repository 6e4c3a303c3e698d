import type { FastifyRequest } from 'fastify'
import type { Settings } from './options.ts'

/** The addresses of the application, as the browser sees them: they come from the options, never from a request. */
export interface Urls {
  /** The public URL of one of the plugin's routes. */
  route: (path: string) => string
  /** The public URL of a request, when it is a safe one, else `defaultReturnTo`. */
  request: (request: FastifyRequest) => string
  /** A URL on the application's own origin: `value` when it is a safe one, else `defaultReturnTo`. */
  returnTo: (value: unknown) => string
}

// Longer than this does not fit into the cookie of a pending login.
const MAX_RETURN_TO = 2000

export function createUrls ({ baseUrl, origin, defaultReturnTo }: Settings, prefix: string): Urls {
  const returnTo: Urls['returnTo'] = (value) => safeUrl(value, baseUrl, origin) ?? defaultReturnTo
  return {
    route: (path) => baseUrl + prefix + path,
    request: ({ originalUrl }) => originalUrl.startsWith('/') ? returnTo(baseUrl + originalUrl) : defaultReturnTo,
    returnTo
  }
}

/** The absolute URL, when it and its written form lead to the given origin as a browser reads them (security.md S48). */
export function safeUrl (value: unknown, baseUrl: string, origin: string): string | null {
  if (typeof value !== 'string' || value.length > MAX_RETURN_TO || hasControlCharacter(value)) return null
  const href = resolve(value, `${baseUrl}/`, origin)
  // The written form is read again: a path such as `/.//host` becomes another host when it stands alone.
  return href !== null && href.length <= MAX_RETURN_TO && resolve(new URL(href).pathname, origin, origin) !== null ? href : null
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
