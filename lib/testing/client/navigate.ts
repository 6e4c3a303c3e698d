import { cookieHeader, cookiesFor, receiveCookie } from './cookies.ts'
import { findMove } from './html.ts'
import { isSameSite, isTrustworthy } from './site.ts'
import { formType } from '../wire.ts'
import type { CookieContext, Jar } from './cookies.ts'
import type { PageForm } from './html.ts'
import type { Wire, WireResponse } from '../wire.ts'

/** One request of a navigation or a script, and its response. */
export interface Hop {
  method: string
  url: string
  status: number
  /** The `Location` header as an absolute URL. */
  location?: string
  /** The `Set-Cookie` lines, whether accepted or not. */
  setCookie: string[]
  headers: Headers
  /** The headers that were sent. */
  sent: Record<string, string>
}

/** The page that the browser arrived at. */
export interface Page {
  status: number
  /** The URL of the last request. */
  url: string
  headers: Headers
  /** The target of a redirect that was not followed, as an absolute URL. */
  location?: string
  /** The form that the page submits by script, when it was not submitted. */
  form?: PageForm
  body: Buffer
  text (): string
  json (): any
  /** All requests, including the last one. */
  history: Hop[]
}

export type Credentials = 'omit' | 'same-origin' | 'include'

/** A request that the browser is about to send. */
export interface Visit {
  method: string
  url: URL
  body: string | undefined
  headers: Record<string, string>
  /** The page that starts the request. `undefined`: the user typed the address. */
  initiator: URL | undefined
  /** The URLs that have redirected so far. */
  chain: URL[]
  mode: 'navigate' | 'cors'
  dest: string
  /** Whether the user started it. */
  user: boolean
  credentials: Credentials
}

export interface Browser {
  jar: Jar
  wireFor: (url: URL) => Wire
}

export interface Follow {
  /** Submits forms that a page submits by script. */
  submit: boolean
  /** Stops before a URL for which this returns `true`. */
  until: (url: URL) => boolean
  maxRedirects: number
}

const sources = ({ initiator, chain }: Visit): URL[] => initiator ? [initiator, ...chain] : chain

// One URL of another site makes the whole chain of redirects cross-site (RFC 6265bis, section 5.2)
const cookieContext = (visit: Visit): CookieContext => ({
  crossSite: sources(visit).some((source) => !isSameSite(source, visit.url)),
  topLevel: visit.mode === 'navigate' && visit.dest === 'document',
  method: visit.method
})

const hasCredentials = (visit: Visit): boolean => visit.credentials === 'include' ||
  (visit.credentials === 'same-origin' && sources(visit).every(({ origin }) => origin === visit.url.origin))

// Fetch Metadata, section 2.4
const fetchSite = ({ initiator, chain, url }: Visit): string => {
  if (!initiator) return 'none'
  const visited = [...chain, url]
  if (visited.every(({ origin }) => origin === initiator.origin)) return 'same-origin'
  return visited.every((stop) => isSameSite(stop, initiator)) ? 'same-site' : 'cross-site'
}

const fetchMetadata = (visit: Visit): Record<string, string> => isTrustworthy(visit.url)
  ? {
      'sec-fetch-site': fetchSite(visit),
      'sec-fetch-mode': visit.mode,
      'sec-fetch-dest': visit.dest,
      ...(visit.user && { 'sec-fetch-user': '?1' })
    }
  : {}

// A redirect from one foreign origin to another hides the origin of the request (Fetch, section 3.1)
const originHeader = ({ method, mode, initiator, chain, url }: Visit): Record<string, string> => {
  if (!initiator) return ['GET', 'HEAD'].includes(method) ? {} : { origin: 'null' }
  const crosses = [...chain, url].some(({ origin }) => origin !== initiator.origin)
  if (['GET', 'HEAD'].includes(method) && !(mode === 'cors' && crosses)) return {}
  const stops = [...chain, url]
  const tainted = chain.some(({ origin }, i) => origin !== initiator.origin && origin !== stops[i + 1]!.origin)
  return { origin: tainted ? 'null' : initiator.origin }
}

const accept = { navigate: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', cors: '*/*' }

const browserHeaders = ({ jar }: Browser, visit: Visit): Record<string, string> => {
  const cookie = hasCredentials(visit) ? cookieHeader(cookiesFor(jar, visit.url, cookieContext(visit))) : ''
  return {
    accept: accept[visit.mode],
    'accept-language': 'en',
    'user-agent': 'Mozilla/5.0 (test browser)',
    ...originHeader(visit),
    ...fetchMetadata(visit),
    ...(cookie && { cookie }),
    ...visit.headers
  }
}

const takeCookies = ({ jar }: Browser, visit: Visit, headers: Headers): string[] => {
  const lines = headers.getSetCookie()
  if (!hasCredentials(visit)) return lines
  for (const line of lines) receiveCookie(jar, line, visit.url, cookieContext(visit))
  return lines
}

const redirectStatus = new Set([301, 302, 303, 307, 308])

const absolute = (location: string | null, base: URL): string | undefined =>
  location !== null && URL.canParse(location, base.href) ? new URL(location, base).href : undefined

interface Arrival {
  visit: Visit
  response: WireResponse
  hop: Hop
}

const request = async (browser: Browser, visit: Visit): Promise<Arrival> => {
  const { method, url, body } = visit
  const sent = browserHeaders(browser, visit)
  const response = await browser.wireFor(url)({ method, url, headers: sent, body })
  const setCookie = takeCookies(browser, visit, response.headers)
  const location = absolute(response.headers.get('location'), url)
  const { status, headers } = response
  const hop = { method, url: url.href, status, setCookie, headers, sent, ...(location !== undefined && { location }) }
  return { visit, response, hop }
}

const becomesGet = (status: number, method: string): boolean =>
  status === 303 ? method !== 'HEAD' : status < 303 && method === 'POST'

const withoutBody = (headers: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !/^content-/i.test(name)))

// Fetch, section 4.4
const redirected = ({ visit, hop: { status, location } }: Arrival): Visit | undefined => {
  if (!redirectStatus.has(status) || location === undefined) return
  const next = { ...visit, url: new URL(location), chain: [...visit.chain, visit.url] }
  if (!becomesGet(status, visit.method)) return next
  return { ...next, method: 'GET', body: undefined, headers: withoutBody(visit.headers) }
}

const submitted = (visit: Visit, { method, action, fields }: PageForm): Visit => {
  const url = new URL(action)
  const post = method === 'POST'
  if (!post && fields.size > 0) url.search = fields.toString()
  const content = { body: post ? fields.toString() : undefined, headers: post ? formType : {} }
  return { ...visit, method, url, ...content, initiator: visit.url, chain: [], user: false }
}

const formOf = ({ visit, response: { headers, body } }: Arrival): PageForm | undefined =>
  visit.mode === 'navigate' && /^text\/html\b/i.test(headers.get('content-type') ?? '')
    ? findMove(body.toString(), visit.url)
    : undefined

const next = (arrival: Arrival, form: PageForm | undefined, { submit }: Follow): Visit | undefined =>
  redirected(arrival) ?? (form && submit ? submitted(arrival.visit, form) : undefined)

const page = ({ response, hop: { url, location } }: Arrival, form: PageForm | undefined, history: Hop[]): Page => ({
  ...response,
  url,
  ...(location !== undefined && { location }),
  ...(form && { form }),
  text: () => response.body.toString(),
  json: () => JSON.parse(response.body.toString()),
  history
})

const tooMany = ({ length }: Hop[], { href }: URL): Error =>
  new Error(`more than ${length - 1} redirects, last to ${href}`)

const isWeb = ({ protocol }: URL): boolean => protocol === 'http:' || protocol === 'https:'

/** Sends a request, and follows redirects and forms. */
export const travel = async (browser: Browser, visit: Visit, follow: Follow, history: Hop[] = []): Promise<Page> => {
  const arrival = await request(browser, visit)
  history.push(arrival.hop)
  const form = formOf(arrival)
  const onward = next(arrival, form, follow)
  if (!onward || !isWeb(onward.url) || follow.until(onward.url)) return page(arrival, form, history)
  if (history.length > follow.maxRedirects) throw tooMany(history, onward.url)
  return await travel(browser, onward, follow, history)
}
