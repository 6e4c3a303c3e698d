import type { FastifyRequest } from 'fastify'

/** Who is asking: a person who opens a page, a script, or another site. */

const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE'])

/**
 * Whether a browser opens a page, so that it can be sent to log in and shown a page (Fetch Metadata Request
 * Headers).
 */
export function isNavigation ({ method, headers }: FastifyRequest): boolean {
  if (method !== 'GET' || headers['x-requested-with'] !== undefined || headers.upgrade !== undefined) return false
  const mode = headers['sec-fetch-mode']
  return mode === undefined ? acceptsHtml(headers.accept) : mode === 'navigate' && isDocument(headers['sec-fetch-dest'])
}

/** Whether an error is best shown as a page: also after a form was posted. */
export function wantsPage ({ headers }: FastifyRequest): boolean {
  const mode = headers['sec-fetch-mode']
  return (
    acceptsHtml(headers.accept) &&
    (mode === undefined || mode === 'navigate') &&
    headers['x-requested-with'] === undefined
  )
}

/**
 * Whether the browser says that a person asked for the page; redirects, refreshes and scripts of a page do
 * not count (Fetch Metadata Request Headers, section 2.4).
 */
export function isClick ({ headers }: FastifyRequest): boolean {
  return headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-user'] === '?1'
}

/** Whether a script asks: what it gets it cannot show as a page. */
export function isScript ({ headers }: FastifyRequest): boolean {
  const mode = headers['sec-fetch-mode']
  return (mode !== undefined && mode !== 'navigate') || headers['x-requested-with'] !== undefined
}

/** Whether the page is to be shown inside another one. */
export function isFramed ({ headers }: FastifyRequest): boolean {
  return !isDocument(headers['sec-fetch-dest'])
}

/** Whether the browser fetches ahead of time what nobody may ever look at. */
export function isPrefetch ({ headers }: FastifyRequest): boolean {
  const purpose = [headers['sec-purpose'], headers['purpose'], headers['x-moz'], headers['x-purpose']].join(' ')
  return /prefetch|prerender|preview/i.test(purpose)
}

/**
 * Whether a request may change something: its method says so, or it opens a WebSocket, which other sites can
 * do as well.
 */
export function isUnsafe ({ method, headers }: FastifyRequest): boolean {
  return !SAFE_METHODS.has(method) || headers.upgrade !== undefined
}

/**
 * Whether the browser says that the request comes from the application's own pages, or from a trusted origin's.
 * A request that says nothing does not.
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
