import type { FastifyRequest } from 'fastify'

// Where a request comes from: a user who opens a page, a script, or another site (Fetch Metadata Request Headers).

const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE'])

/** Whether a browser opens a page: it can follow a redirect to the login and show a page. */
export function isNavigation ({ method, headers }: FastifyRequest): boolean {
  if (method !== 'GET' || headers['x-requested-with'] !== undefined || headers.upgrade !== undefined) return false
  const mode = headers['sec-fetch-mode']
  return mode === undefined ? acceptsHtml(headers.accept) : mode === 'navigate' && isDocument(headers['sec-fetch-dest'])
}

/** Whether the browser shows the response as a page, also after a form was posted. */
export function wantsPage ({ headers }: FastifyRequest): boolean {
  const mode = headers['sec-fetch-mode']
  const navigates = mode === undefined || mode === 'navigate'
  return navigates && acceptsHtml(headers.accept) && headers['x-requested-with'] === undefined
}

/**
 * Whether the browser says that the user asked for the page: redirects, refreshes and scripts do not count
 * (Fetch Metadata Request Headers, section 2.4).
 */
export function isClick ({ headers }: FastifyRequest): boolean {
  return headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-user'] === '?1'
}

/** Whether a script sends the request: it cannot show the response as a page. */
export function isScript ({ headers }: FastifyRequest): boolean {
  const mode = headers['sec-fetch-mode']
  return (mode !== undefined && mode !== 'navigate') || headers['x-requested-with'] !== undefined
}

/** Whether the browser shows the page inside another one. */
export function isFramed ({ headers }: FastifyRequest): boolean {
  return !isDocument(headers['sec-fetch-dest'])
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

function isDocument (dest: unknown): boolean {
  return dest === undefined || dest === 'document'
}
