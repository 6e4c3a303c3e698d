import { cookieControls } from './client/cookies.ts'
import { travel } from './client/navigate.ts'
import { formType, httpWire, injectWire } from './wire.ts'
import type { CookieJar, Jar } from './client/cookies.ts'
import type { Browser, Credentials, Follow, Page, Visit } from './client/navigate.ts'
import type { Injectable } from './wire.ts'

/** Options of `client`. */
export interface ClientOptions {
  /** The application. Requests to the origin of `baseUrl` go through its `inject`, not over the network. */
  app?: Injectable
  /** The public URL of the application, for example `https://app.example.com`. */
  baseUrl: string
  /** The certificate authority to trust, PEM. */
  ca?: string
  /** Headers that every request has. */
  headers?: Record<string, string>
  /** Submits forms that a page submits by script, and follows `<meta http-equiv="refresh">`. Default: `true`. */
  submit?: boolean
  /** How many redirects are followed at most. Default: 20, as in browsers. */
  maxRedirects?: number
}

/** Options of a navigation. */
export interface GotoOptions {
  /** The page that has the link; it decides what is cross-site. Default: the user typed the address. */
  from?: string
  headers?: Record<string, string>
  /** `iframe` loads an iframe in the page `from`. Default: `document`. */
  dest?: 'document' | 'iframe'
  /** Overrides the option of the client. */
  submit?: boolean
  /** Stops before it requests a URL for which this returns `true`. The page has the URL as `location` or `form`. */
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
  /** A body that is sent as JSON. */
  json?: unknown
  /** The page that runs the script. Default: a page of the application. */
  from?: string
  /** Default: `same-origin`, as in browsers. */
  credentials?: Credentials
  /** Default: `follow`. */
  redirect?: 'follow' | 'manual'
}

/** A headless browser. */
export interface TestBrowser {
  readonly cookies: CookieJar
  /** Opens a page and follows redirects. */
  goto (url: string, options?: GotoOptions): Promise<Page>
  /** Submits a form. Default of `from`: a page of the application. */
  post (url: string, form?: FormBody, options?: GotoOptions): Promise<Page>
  /** Sends a request as a script does. It does not check CORS: it returns even what a script may not read. */
  fetch (url: string, options?: FetchOptions): Promise<Page>
  /** Sends one request of a navigation, without following redirects. */
  step (url: string, options?: StepOptions): Promise<Page>
  /** Creates a browser with a copy of the cookies, for example for a replay. */
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
 * Creates a headless browser for tests. It keeps cookies by the rules of browsers, follows redirects, submits forms
 * that a page submits by script, and sends the headers by which a server distinguishes a navigation from a script.
 *
 * @example
 * const browser = client({ app, baseUrl: 'https://app.example.com' })
 * const page = await browser.goto('/auth/login?return_to=/me')
 */
export const client = (options: ClientOptions): TestBrowser => build(options, { cookies: [], refused: [] })
