import type { FastifyRequest } from 'fastify'

// Where a request comes from: a user who opens a page, a script, or another site (Fetch Metadata Request Headers).

const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE'])

/** Whether a browser opens a page: it can follow a redirect to the login and show a page. */
export function isNavigation (request: FastifyRequest): boolean {
  const { method, headers } = request
  if (method !== 'GET' || headers.upgrade !== undefined || isScript(request) || isFramed(request)) return false
  return headers['sec-fetch-mode'] === 'navigate' || acceptsHtml(headers.accept)
}

/** Whether the browser shows the response as a page, also after a form was posted. */
export function wantsPage (request: FastifyRequest): boolean {
  return !isScript(request) && acceptsHtml(request.headers.accept)
}

/**
 * Whether the browser says that the user clicked on a page: redirects, refreshes, scripts and addresses from outside
 * the browser, such as a link in a mail, do not count (Fetch Metadata Request Headers, sections 2.3 and 2.4).
 */
export function isClick ({ headers }: FastifyRequest): boolean {
  const isFromPage = headers['sec-fetch-site'] !== 'none'
  return isFromPage && headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-user'] === '?1'
}

/**
 * Whether a script sends the request: it cannot show the response as a page. `Sec-Fetch-Mode` decides, because no
 * script can set it. Android WebViews send the name of their application as `X-Requested-With` with every page.
 */
export function isScript ({ headers }: FastifyRequest): boolean {
  const mode = headers['sec-fetch-mode']
  return mode === undefined ? /^XMLHttpRequest$/i.test(String(headers['x-requested-with'])) : mode !== 'navigate'
}

const FRAMES: ReadonlySet<unknown> = new Set(['iframe', 'frame', 'embed', 'object', 'fencedframe'])

/**
 * Whether the browser shows the page inside another one. The destination of a page that a service worker passes on is
 * `empty`, as that of a script.
 */
export function isFramed ({ headers }: FastifyRequest): boolean {
  return FRAMES.has(headers['sec-fetch-dest'])
}

/** Whether the browser fetches a page that the user has not opened yet. */
export function isPrefetch ({ headers }: FastifyRequest): boolean {
  const purpose = [headers['sec-purpose'], headers['purpose'], headers['x-moz'], headers['x-purpose']].join(' ')
  return /prefetch|prerender|preview/i.test(purpose)
}

/** Whether a request may change data. A WebSocket counts, because other sites can open one too. */
export function isUnsafe ({ method, headers }: FastifyRequest): boolean {
  return !SAFE_METHODS.has(method) || headers.upgrade !== undefined
}

/**
 * Whether the browser says that the request comes from a page of the application or of a trusted origin.
 * Without any such header the answer is `false`.
 */
export function isSameOrigin (
  { headers }: FastifyRequest,
  origin: string,
  trustedOrigins: ReadonlySet<string>
): boolean {
  if (headers.origin !== undefined && trustedOrigins.has(headers.origin)) return true
  const site = headers['sec-fetch-site']
  if (site !== undefined) return site === 'same-origin' || site === 'none'
  return headers.origin === origin
}

function acceptsHtml (accept: string | undefined): boolean {
  return accept !== undefined && /\btext\/html\b/i.test(accept)
}
