/** A browser for tests: cookies, redirects and HTML forms over `fetch`, without JavaScript. */

/** The last response. */
export interface Page {
  url: string
  status: number
  headers: Headers
  body: string
  /** The target of a redirect that was not followed, as an absolute URL. */
  location?: string
}

export interface UserAgent {
  /** Opens a page and follows redirects, until one leads to a URL that begins with `stopAt`. */
  open (url: string, stopAt?: string): Promise<Page>
  /** Sends the form of a page, with the answers to the fields that it has. Continues like `open`. */
  submit (page: Page, answers: Record<string, string>, stopAt?: string): Promise<Page>
  /** The cookies that are sent to a URL, by name. */
  cookies (url: string): Record<string, string>
}

interface Cookie {
  name: string
  value: string
  host: string
  path: string
}

const maxRedirects = 20

export function createUserAgent (): UserAgent {
  let jar: Cookie[] = []

  async function send (url: string, init: RequestInit): Promise<Page> {
    const headers = { accept: 'text/html', cookie: cookieHeader(jar, url), ...init.headers }
    const response = await fetch(url, { ...init, headers, redirect: 'manual' })
    jar = response.headers.getSetCookie().reduce((kept, line) => keep(kept, line, new URL(url)), jar)
    const location = response.headers.get('location')
    const page = { url, status: response.status, headers: response.headers, body: await response.text() }
    return location === null ? page : { ...page, location: new URL(location, url).href }
  }

  async function go (url: string, init: RequestInit, stopAt?: string): Promise<Page> {
    let page = await send(url, init)
    for (let followed = 0; page.location !== undefined; followed++) {
      if (stopAt !== undefined && page.location.startsWith(stopAt)) return page
      if (followed === maxRedirects) {
        throw new Error(`more than ${maxRedirects} redirects, the last to ${page.location}`)
      }
      page = await send(page.location, {})
    }
    return page
  }

  return {
    open: (url, stopAt) => go(url, {}, stopAt),
    submit: (page, answers, stopAt) => go(formAction(page), { method: 'POST', body: formBody(page, answers) }, stopAt),
    cookies: (url) => Object.fromEntries(matching(jar, url).map(({ name, value }) => [name, value]))
  }
}

function formAction (page: Page): string {
  const form = /<form\b[^>]*>/i.exec(page.body)
  if (form === null) throw new Error(`no form at ${page.url} (${page.status}): ${page.body}`)
  return new URL(attribute(form[0], 'action') ?? '', page.url).href
}

function formBody (page: Page, answers: Record<string, string>): URLSearchParams {
  const body = new URLSearchParams()
  for (const [tag] of page.body.matchAll(/<(?:input|button)\b[^>]*>/gi)) {
    const name = attribute(tag, 'name')
    if (name === undefined || body.has(name)) continue
    const value = answers[name] ?? (tag.startsWith('<input') ? attribute(tag, 'value') : undefined)
    if (value !== undefined) body.set(name, value)
  }
  return body
}

const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" }

function attribute (tag: string, name: string): string | undefined {
  const value = new RegExp(`\\s${name}="([^"]*)"`, 'i').exec(tag)?.[1]
  return value?.replace(/&(amp|lt|gt|quot|#39);/g, (_, entity: string) => entities[entity] ?? '')
}

// Cookies belong to a host, with all its ports, and to a path (RFC 6265, section 5).
function keep (jar: Cookie[], line: string, url: URL): Cookie[] {
  const [pair = '', ...attributes] = line.split(';').map((part) => part.trim())
  const name = pair.slice(0, pair.indexOf('='))
  const value = pair.slice(pair.indexOf('=') + 1)
  const path = valueOf(attributes, 'path') ?? (url.pathname.replace(/\/[^/]*$/, '') || '/')
  const others = jar.filter((cookie) => cookie.name !== name || cookie.host !== url.hostname || cookie.path !== path)
  return hasExpired(attributes) ? others : [...others, { name, value, host: url.hostname, path }]
}

function hasExpired (attributes: string[]): boolean {
  const maxAge = valueOf(attributes, 'max-age')
  if (maxAge !== undefined) return Number(maxAge) <= 0
  const expires = valueOf(attributes, 'expires')
  return expires !== undefined && Date.parse(expires) <= Date.now()
}

function valueOf (attributes: string[], name: string): string | undefined {
  return attributes.find((attribute) => attribute.toLowerCase().startsWith(`${name}=`))?.slice(name.length + 1)
}

function matching (jar: Cookie[], url: string): Cookie[] {
  const { hostname, pathname } = new URL(url)
  const under = (path: string) => pathname === path || pathname.startsWith(path.endsWith('/') ? path : `${path}/`)
  return jar.filter(({ host, path }) => host === hostname && under(path))
}

function cookieHeader (jar: Cookie[], url: string): string {
  return matching(jar, url).map(({ name, value }) => `${name}=${value}`).join('; ')
}
