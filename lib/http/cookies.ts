import type { FastifyReply } from 'fastify'

/** The value of the first cookie of that name in a Cookie header (RFC 6265, section 5.4), as it was sent. */
export function readCookie (header: string | undefined, name: string): string | undefined {
  if (header === undefined) return undefined
  const needle = `${name}=`
  for (let at = header.indexOf(needle); at !== -1; at = header.indexOf(needle, at + 1)) {
    if (beginsPair(header, at)) return valueFrom(header, at + needle.length)
  }
  return undefined
}

// A name inside another cookie's value must not pass for a cookie: a pair begins the header or follows a semicolon.
function beginsPair (header: string, at: number): boolean {
  let before = at - 1
  while (before >= 0 && header[before] === ' ') before--
  return before < 0 || header[before] === ';'
}

function valueFrom (header: string, start: number): string {
  const end = header.indexOf(';', start)
  return header.slice(start, end === -1 ? undefined : end).trimEnd()
}

const NAME = /^[\w!#$%&'*+.^`|~-]+$/ // RFC 6265, section 4.1.1: what is no name cannot be set, and so not be removed

export interface SentCookie {
  name: string
  value: string
  /** What the cookie takes in the header, in bytes. */
  bytes: number
}

/** The cookies whose names begin with `prefix`. */
export function cookiesNamed (header: string | undefined, prefix: string): SentCookie[] {
  const pairs = (header ?? '').split(';').map((pair) => pair.trim()).filter((pair) => pair.startsWith(prefix))
  const cookies = pairs.map((pair) => {
    const name = pair.split('=', 1)[0] as string
    return { name, value: pair.slice(name.length + 1), bytes: pair.length + 2 }
  })
  return cookies.filter(({ name }) => NAME.test(name))
}

/** The names of the cookies that begin with `prefix`, each once. */
export function cookieNames (header: string | undefined, prefix: string): string[] {
  return [...new Set(cookiesNamed(header, prefix).map(({ name }) => name))]
}

export function totalBytes (cookies: readonly SentCookie[]): number {
  return cookies.reduce((sum, { bytes }) => sum + bytes, 0)
}

/** Adds a Set-Cookie header beside those that are there. */
export function addSetCookie (reply: FastifyReply, setCookie: string): void {
  reply.header('set-cookie', setCookie)
}

/** All the plugin's cookies together, in bytes. */
export const COOKIE_BUDGET = 8000
