import { isIP } from 'node:net'
import { isTrustworthy } from './site.ts'

/** A cookie in the jar. */
export interface Cookie {
  name: string
  value: string
  /** The host, or the `Domain` attribute. */
  domain: string
  /** Set without a `Domain` attribute: sent to this host only. */
  hostOnly: boolean
  path: string
  secure: boolean
  httpOnly: boolean
  sameSite: 'strict' | 'lax' | 'none'
  /** When it expires, in milliseconds since the epoch. Absent for a session cookie. */
  expires?: number
}

/** The request that sets or sends a cookie. */
export interface CookieContext {
  crossSite: boolean
  /** Whether it navigates the whole tab, and is not a frame or a script. */
  topLevel: boolean
  method: string
}

/** A `Set-Cookie` line that the browser did not accept. */
export interface RefusedCookie {
  line: string
  reason: string
}

/** The cookies of a browser. Default of every `url`: the base URL. */
export interface CookieJar {
  /** Returns the cookies that are sent to a URL, or without a URL all cookies. */
  list (url?: string): Cookie[]
  /** Returns the value of a cookie. */
  get (name: string, url?: string): string | undefined
  /** Changes only the value of a cookie. When there is none, adds one: host-only, `Path=/`, `SameSite=Lax`. */
  set (name: string, value: string, url?: string): void
  delete (name: string, url?: string): void
  clear (): void
  /** Returns the `Cookie` header of a same-site navigation, or an empty text when there are no cookies. */
  header (url?: string): string
  /** Returns the size of that header, in bytes. */
  bytes (url?: string): number
  /** The cookies that were not accepted, with the reason, oldest first. */
  readonly refused: RefusedCookie[]
}

export interface Jar {
  cookies: Cookie[]
  refused: RefusedCookie[]
}

const maxBytes = 4096
const maxAge = 400 * 86_400

type Attributes = Map<string, string>

const splitPair = (pair: string): [string, string] => {
  const at = pair.indexOf('=')
  return at < 0 ? ['', pair.trim()] : [pair.slice(0, at).trim(), pair.slice(at + 1).trim()]
}

const parseAttributes = (parts: string[]): Attributes => new Map(parts.map((part) => {
  const [name, value] = part.includes('=') ? splitPair(part) : [part.trim(), '']
  return [name.toLowerCase(), value]
}))

// RFC 6265, section 5.1.4
const defaultPath = ({ pathname }: URL): string => pathname.slice(0, pathname.lastIndexOf('/')) || '/'

const pathMatches = (path: string, { pathname }: URL): boolean =>
  pathname === path || (pathname.startsWith(path) && (path.endsWith('/') || pathname[path.length] === '/'))

const domainMatches = (domain: string, { hostname }: URL): boolean =>
  hostname === domain || (hostname.endsWith(`.${domain}`) && !isIP(hostname))

const expiry = (attributes: Attributes): number | undefined => {
  const seconds = attributes.get('max-age')
  if (seconds !== undefined && /^-?\d+$/.test(seconds)) return Date.now() + Math.min(Number(seconds), maxAge) * 1000
  const date = Date.parse(attributes.get('expires') ?? '')
  return Number.isNaN(date) ? undefined : Math.min(date, Date.now() + maxAge * 1000)
}

const sameSiteOf = (value: string | undefined): Cookie['sameSite'] => {
  const lower = value?.toLowerCase()
  return lower === 'strict' || lower === 'none' ? lower : 'lax'
}

const parseLine = (line: string, url: URL): Cookie => {
  const [pair = '', ...parts] = line.split(';')
  const [name, value] = splitPair(pair)
  const attributes = parseAttributes(parts)
  const path = attributes.get('path')
  const domain = attributes.get('domain')?.replace(/^\./, '').toLowerCase()
  const expires = expiry(attributes)
  return {
    name,
    value,
    domain: domain || url.hostname,
    hostOnly: !domain,
    path: path?.startsWith('/') ? path : defaultPath(url),
    secure: attributes.has('secure'),
    httpOnly: attributes.has('httponly'),
    sameSite: sameSiteOf(attributes.get('samesite')),
    ...(expires !== undefined && { expires })
  }
}

interface Candidate {
  cookie: Cookie
  line: string
  url: URL
  context: CookieContext
  jar: Jar
}

const hasPrefix = ({ name }: Cookie, prefix: string): boolean => name.toLowerCase().startsWith(prefix)

const isHostCookie = ({ hostOnly, path, secure }: Cookie, line: string): boolean =>
  secure && hostOnly && path === '/' && /;\s*path=\/\s*(;|$)/i.test(line)

// The first rule that returns true refuses the cookie (RFC 6265bis, section 5.7)
const rules: Array<[reason: string, refuses: (candidate: Candidate) => boolean]> = [
  ['control character', ({ line }) => /[\0-\x08\x0a-\x1f\x7f]/.test(line)], // eslint-disable-line no-control-regex
  ['empty', ({ cookie }) => cookie.name === '' && cookie.value === ''],
  ['larger than 4096 bytes', ({ line }) => Buffer.byteLength(line) > maxBytes],
  ['Domain of another host', ({ cookie, url }) => !domainMatches(cookie.domain, url)],
  ['Domain is a public suffix', ({ cookie, url }) => !cookie.domain.includes('.') && cookie.domain !== url.hostname],
  ['Secure from an insecure origin', ({ cookie, url }) => cookie.secure && !isTrustworthy(url)],
  ['SameSite=None without Secure', ({ cookie }) => cookie.sameSite === 'none' && !cookie.secure],
  ['__Secure- without Secure', ({ cookie }) => hasPrefix(cookie, '__secure-') && !cookie.secure],
  ['__Host- without Secure, Path=/ or with Domain',
    ({ cookie, line }) => hasPrefix(cookie, '__host-') && !isHostCookie(cookie, line)],
  ['__Http- without Secure and HttpOnly',
    ({ cookie }) => /^__(host-)?http-/i.test(cookie.name) && !(cookie.secure && cookie.httpOnly)],
  ['a prefix without a name', ({ cookie }) => cookie.name === '' && /^__(host|secure|http)-/i.test(cookie.value)],
  ['SameSite from another site',
    ({ cookie, context }) => cookie.sameSite !== 'none' && context.crossSite && !context.topLevel],
  ['over a Secure cookie from an insecure origin', ({ cookie, url, jar }) => !isTrustworthy(url) && !cookie.secure &&
    jar.cookies.some((old) => old.secure && old.name === cookie.name && domainMatches(old.domain, url))]
]

const isSame = (a: Cookie, b: Cookie): boolean =>
  a.name === b.name && a.domain === b.domain && a.hostOnly === b.hostOnly && a.path === b.path

const isAlive = ({ expires = Infinity }: Cookie): boolean => expires > Date.now()

const store = (jar: Jar, cookie: Cookie): void => {
  const at = jar.cookies.findIndex((old) => isSame(old, cookie))
  if (at >= 0) jar.cookies[at] = cookie
  else jar.cookies.push(cookie)
  jar.cookies = jar.cookies.filter(isAlive)
}

/** Accepts or refuses one `Set-Cookie` line. */
export const receiveCookie = (jar: Jar, line: string, url: URL, context: CookieContext): void => {
  const cookie = parseLine(line, url)
  const refused = rules.find(([, refuses]) => refuses({ cookie, line, url, context, jar }))
  if (refused) jar.refused.push({ line, reason: refused[0] })
  else store(jar, cookie)
}

const belongs = (cookie: Cookie, url: URL): boolean =>
  (cookie.hostOnly ? cookie.domain === url.hostname : domainMatches(cookie.domain, url)) &&
  pathMatches(cookie.path, url) && (!cookie.secure || isTrustworthy(url)) && isAlive(cookie)

const isSafe = (method: string): boolean => ['GET', 'HEAD', 'OPTIONS'].includes(method)

const crosses = ({ sameSite }: Cookie, { crossSite, topLevel, method }: CookieContext): boolean =>
  !crossSite || sameSite === 'none' || (sameSite === 'lax' && topLevel && isSafe(method))

export const sameSiteNavigation: CookieContext = { crossSite: false, topLevel: true, method: 'GET' }

/** The cookies of a request, in the order of RFC 6265, section 5.4: longer paths first, then older cookies. */
export const cookiesFor = ({ cookies }: Jar, url: URL, context: CookieContext = sameSiteNavigation): Cookie[] => cookies
  .filter((cookie) => belongs(cookie, url) && crosses(cookie, context))
  .sort((a, b) => b.path.length - a.path.length)

export const cookieHeader = (cookies: Cookie[]): string =>
  cookies.map(({ name, value }) => name === '' ? value : `${name}=${value}`).join('; ')

const setValue = (jar: Jar, name: string, value: string, url: URL): void => {
  const cookie = cookiesFor(jar, url).find((cookie) => cookie.name === name)
  if (cookie) cookie.value = value
  else receiveCookie(jar, `${name}=${value}; Path=/${isTrustworthy(url) ? '; Secure' : ''}`, url, sameSiteNavigation)
}

/** The functions by which tests read and change the cookies. */
export const cookieControls = (jar: Jar, baseUrl: URL): CookieJar => {
  const at = (url: string | undefined): URL => url === undefined ? baseUrl : new URL(url, baseUrl)
  const header = (url?: string): string => cookieHeader(cookiesFor(jar, at(url)))
  return {
    list: (url) => structuredClone(url === undefined ? jar.cookies.filter(isAlive) : cookiesFor(jar, at(url))),
    get: (name, url) => cookiesFor(jar, at(url)).find((cookie) => cookie.name === name)?.value,
    set: (name, value, url) => setValue(jar, name, value, at(url)),
    delete: (name, url) => {
      const gone = new Set(cookiesFor(jar, at(url)).filter((cookie) => cookie.name === name))
      jar.cookies = jar.cookies.filter((cookie) => !gone.has(cookie))
    },
    clear: () => { jar.cookies = [] },
    header,
    bytes: (url) => Buffer.byteLength(header(url)),
    refused: jar.refused
  }
}
