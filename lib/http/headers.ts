import type { FastifyReply, FastifyRequest } from 'fastify'

/** Every value of a header, as it was sent. Node's `headers` joins them, or keeps only the first. */
export function headerValues ({ raw: { rawHeaders } }: FastifyRequest, name: string): string[] {
  const values = []
  for (let at = 0; at < rawHeaders.length; at += 2) {
    if (rawHeaders[at]?.length === name.length && rawHeaders[at]?.toLowerCase() === name) {
      values.push(rawHeaders[at + 1] as string)
    }
  }
  return values
}

// CDNs and proxies obey these before Cache-Control (RFC 9213 and the headers that it replaces).
const FOR_SHARED_CACHES = /^(?:.+-cache-control|surrogate-control|edge-control|expires|x-accel-expires)$/

/** No cache may keep a response, whatever the application has set for all responses. */
export function forbidCaching (reply: FastifyReply): void {
  reply.header('cache-control', 'no-store')
  removeSharedCaching(reply)
}

function removeSharedCaching (reply: FastifyReply): void {
  for (const name of Object.keys(reply.getHeaders()).filter((name) => FOR_SHARED_CACHES.test(name.toLowerCase()))) {
    reply.removeHeader(name)
    reply.raw.removeHeader(name)
  }
}

/**
 * No shared cache may keep a response that depends on a session, and no cache at all one that sets cookies
 * (security.md S40).
 */
export function preventCaching (reply: FastifyReply, setsCookies: boolean): void {
  const cacheControl = reply.getHeader('cache-control')
  const isPrivate = cacheControl !== undefined && /(?:^|,)\s*private\s*(?:,|$)/i.test(String(cacheControl))
  if (setsCookies || !isPrivate) reply.header('cache-control', 'no-store')
  removeSharedCaching(reply)
  const vary = reply.getHeader('vary')
  if (vary === undefined) reply.header('vary', 'Cookie')
  else if (!/(?:^|,)\s*(?:cookie|\*)\s*(?:,|$)/i.test(String(vary))) reply.header('vary', `${String(vary)}, Cookie`)
}
