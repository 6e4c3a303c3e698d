import { cookieControls } from './client/cookies.ts'
import { formType, travel } from './client/navigate.ts'
import { httpWire, injectWire } from './wire.ts'
import type { CookieJar, Jar } from './client/cookies.ts'
import type { Browser, Credentials, Follow, Page, Visit } from './client/navigate.ts'
import type { Injectable } from './wire.ts'

/** Options of `client`. */
export interface ClientOptions {
  /** The application: requests to the origin of `baseUrl` go through its `inject`, not over the network. */
  app?: Injectable
  /** The public URL of the application, e.g. `https://app.example.com`. */
  baseUrl: string
  /** PEM of a certificate authority to trust. */
  ca?: string
  /** Headers that every request carries. */
  headers?: Record<string, string>
  /** Submits pages that submit themselves, and follows `<meta http-equiv="refresh">` without delay; default true. */
  submit?: boolean
  /** Default 20, as in browsers. */
  maxRedirects?: number
}

/** Options of a navigation. */
export interface GotoOptions {
  /** The page with the link, which decides what is cross-site; default: the address is typed. */
  from?: string
  headers?: Record<string, string>
  /** `iframe` loads a frame in the page `from`; default `document`. */
  dest?: 'document' | 'iframe'
  submit?: boolean
  /** Stops in front of this URL: the page has it as `location`, or as `form`. */
  until?: (url: URL) => boolean
}

/** Options of a single request. */
export interface StepOptions extends GotoOptions {
  method?: string
  body?: FormBody
}

/** A form to post. */
export type FormBody = Record<string, string> | URLSearchParams | string

/** Options of a request by a script. */
export interface FetchOptions {
  method?: string
  headers?: Record<string, string>
  body?: string | URLSearchParams
  /** Sent as JSON. */
  json?: unknown
  /** The page of the script; default the application's own. */
  from?: string
  /** Default `same-origin`, as in browsers. */
  credentials?: Credentials
  /** Default `follow`. */
  redirect?: 'follow' | 'manual'
}

/** A browser without a screen. */
export interface TestBrowser {
  readonly cookies: CookieJar
  /** Navigates, and follows redirects. */
  goto (url: string, options?: GotoOptions): Promise<Page>
  /** Submits a form; by default one on a page of the application. */
  post (url: string, form?: FormBody, options?: GotoOptions): Promise<Page>
  /** Requests as a script does. There is no CORS check: it tells what the server does, not what a script may read. */
  fetch (url: string, options?: FetchOptions): Promise<Page>
  /** Navigates without following. */
  step (url: string, options?: StepOptions): Promise<Page>
  /** The same browser with a copy of the cookies, e.g. for a replay. */
  clone (): TestBrowser
}

const encodeForm = (form: FormBody): string =>
  typeof form === 'string' ? form : new URLSearchParams(form).toString()

const navigation = (url: URL, { from, headers = {}, dest = 'document' }: GotoOptions): Visit => ({
  method: 'GET',
  url,
  body: undefined,
  headers,
  initiator: from === undefined ? undefined : new URL(from),
  chain: [],
  mode: 'navigate',
  dest,
  user: dest === 'document',
  credentials: 'include'
})

const formVisit = (visit: Visit, form: FormBody, method = 'POST'): Visit =>
  ({ ...visit, method, body: encodeForm(form), headers: { ...formType, ...visit.headers } })

const scriptBody = ({ body, json }: FetchOptions): Pick<Visit, 'body' | 'headers'> => {
  if (json !== undefined) return { body: JSON.stringify(json), headers: { 'content-type': 'application/json' } }
  if (body instanceof URLSearchParams) return { body: body.toString(), headers: formType }
  return { body, headers: body === undefined ? {} : { 'content-type': 'text/plain;charset=UTF-8' } }
}

const scriptVisit = (url: URL, initiator: URL, options: FetchOptions): Visit => {
  const { body, headers } = scriptBody(options)
  return {
    method: options.method ?? 'GET',
    url,
    body,
    headers: { ...headers, ...options.headers },
    initiator,
    chain: [],
    mode: 'cors',
    dest: 'empty',
    user: false,
    credentials: options.credentials ?? 'same-origin'
  }
}

const nowhere: Partial<Follow> = { until: () => true }

type Go = (visit: Visit, options: Partial<Follow>) => Promise<Page>

const goWith = (options: ClientOptions, jar: Jar, baseUrl: URL): Go => {
  const network = httpWire(options.ca)
  const own = options.app ? injectWire(options.app) : network
  const browser: Browser = { jar, wireFor: (url) => url.origin === baseUrl.origin ? own : network }
  return (visit, { submit = options.submit ?? true, until = () => false }) => {
    const headers = { ...options.headers, ...visit.headers }
    return travel(browser, { ...visit, headers }, { submit, until, maxRedirects: options.maxRedirects ?? 20 })
  }
}

const single = (visit: Visit, { method, body }: StepOptions): Visit =>
  body === undefined ? { ...visit, method: method ?? 'GET' } : formVisit(visit, body, method)

const build = (options: ClientOptions, jar: Jar): TestBrowser => {
  const baseUrl = new URL(options.baseUrl)
  const go = goWith(options, jar, baseUrl)
  const at = (url: string): URL => new URL(url, baseUrl)
  return {
    cookies: cookieControls(jar, baseUrl),
    goto: (url, how = {}) => go(navigation(at(url), how), how),
    post: (url, form = '', how = {}) => go(formVisit(navigation(at(url), { from: baseUrl.href, ...how }), form), how),
    fetch: (url, how = {}) =>
      go(scriptVisit(at(url), at(how.from ?? ''), how), how.redirect === 'manual' ? nowhere : {}),
    step: (url, how = {}) => go(single(navigation(at(url), how), how), nowhere),
    clone: () => build(options, structuredClone(jar))
  }
}

/**
 * A browser for tests: cookies by the rules of browsers, redirects, forms that submit themselves, and the headers by
 * which a server tells a navigation from a script.
 *
 * @example
 * const browser = client({ app, baseUrl: 'https://app.example.com' })
 * const page = await browser.goto('/auth/login?return_to=/me')
 */
export const client = (options: ClientOptions): TestBrowser => build(options, { cookies: [], refused: [] })
