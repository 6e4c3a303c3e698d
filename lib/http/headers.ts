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

// It runs several times for a response. Fastify and Node.js keep the names in lower case.
function removeSharedCaching (reply: FastifyReply): void {
  for (const name in reply.getHeaders()) {
    if (!FOR_SHARED_CACHES.test(name)) continue
    reply.removeHeader(name)
    reply.raw.removeHeader(name)
  }
}

/**
 * No shared cache may keep a response that depends on a session, and no cache at all one that sets cookies.
 */
export function preventCaching (reply: FastifyReply, setsCookies: boolean): void {
  reply.header('cache-control', setsCookies ? 'no-store' : unshared(reply.getHeader('cache-control')))
  removeSharedCaching(reply)
  addVary(reply, 'Cookie')
}

/** The response depends on this header of the request. */
export function addVary (reply: FastifyReply, name: 'Cookie' | 'Accept-Language'): void {
  reply.header('vary', withName(reply.getHeader('vary'), name))
}

/**
 * The same for an application that replies without Fastify (`reply.hijack()`, `reply.raw.end()`). What is set later
 * takes its place.
 */
export function preventCachingEarly (reply: FastifyReply): void {
  const { raw } = reply
  removeSharedCaching(reply)
  raw.setHeader('cache-control', unshared(raw.getHeader('cache-control')))
  raw.setHeader('vary', withName(raw.getHeader('vary'), 'Cookie'))
}

/** Hooks that run later cannot allow caching again. */
export function keepUncached (reply: FastifyReply): void {
  const { header } = reply
  reply.header = function (name: string, value?: unknown) {
    const isAboutCaching = /^cache-control$/i.test(name) || FOR_SHARED_CACHES.test(name.toLowerCase())
    return isAboutCaching ? this : header.call(this, name, value)
  }
}

function unshared (cacheControl: unknown): string {
  if (cacheControl === undefined) return 'no-store'
  const value = String(cacheControl)
  return /(?:^|,)\s*private\s*(?:,|$)/i.test(value) ? value : 'no-store'
}

function withName (vary: unknown, name: string): string {
  if (vary === undefined || vary === name) return name
  const names = String(vary).split(',').map((value) => value.trim().toLowerCase())
  return names.includes(name.toLowerCase()) || names.includes('*') ? String(vary) : `${String(vary)}, ${name}`
}
