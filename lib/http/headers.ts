import type { FastifyReply, FastifyRequest } from 'fastify'

/** Each value of a header, as it was sent: `headers` has the first of several only, or joins them. */
export function headerValues ({ raw: { rawHeaders } }: FastifyRequest, name: string): string[] {
  const values = []
  for (let at = 0; at < rawHeaders.length; at += 2) {
    if (rawHeaders[at]?.length === name.length && rawHeaders[at]?.toLowerCase() === name) {
      values.push(rawHeaders[at + 1] as string)
    }
  }
  return values
}

/**
 * A response that depends on a session belongs to nobody else; one that sets cookies is not stored at all
 * (security.md S40).
 */
export function preventCaching (reply: FastifyReply, setsCookies: boolean): void {
  const own = reply.getHeader('cache-control')
  if (setsCookies || own === undefined || !/(?:^|,)\s*private\s*(?:,|$)/i.test(String(own))) {
    reply.header('cache-control', 'no-store')
  }
  const vary = reply.getHeader('vary')
  if (vary === undefined) reply.header('vary', 'Cookie')
  else if (!/(?:^|,)\s*(?:cookie|\*)\s*(?:,|$)/i.test(String(vary))) reply.header('vary', `${String(vary)}, Cookie`)
}
