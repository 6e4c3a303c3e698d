import type { FastifyReply } from 'fastify'

/** How many bytes all cookies of the plugin may take together in a request, those of all registrations. */
export const COOKIE_BUDGET = 8000
/** The part of it for pending and silent logins, in bytes. It is always free for them: tabs do not know each other. */
export const LOGIN_BUDGET = 1000
/** The limit of browsers for one cookie, in bytes. */
export const MAX_COOKIE = 4096
/** The length of Path, HttpOnly, Secure, SameSite and Max-Age, which some browsers count as well, in bytes. */
export const ATTRIBUTES_LENGTH = 90

export interface SentCookie {
  name: string
  value: string
  /** How many bytes the cookie takes in the header. */
  bytes: number
}

// RFC 6265, section 4.1.1. A cookie with another name cannot be set, so it cannot be removed either.
const NAME = /^[\w!#$%&'*+.^`|~-]+$/

/** The value of the first cookie with this name in a Cookie header (RFC 6265, section 5.4), as it was sent. */
export function readCookie (header: string | undefined, name: string): string | undefined {
  if (header === undefined) return undefined
  const needle = `${name}=`
  for (let at = header.indexOf(needle); at !== -1; at = header.indexOf(needle, at + 1)) {
    if (beginsPair(header, at)) return valueFrom(header, at + needle.length)
  }
  return undefined
}

// The value of another cookie may contain the name: a cookie starts the header or follows a semicolon.
function beginsPair (header: string, at: number): boolean {
  let before = at - 1
  while (before >= 0 && header[before] === ' ') before--
  return before < 0 || header[before] === ';'
}

function valueFrom (header: string, start: number): string {
  const end = header.indexOf(';', start)
  return header.slice(start, end === -1 ? undefined : end).trimEnd()
}

/** The cookies whose names begin with `prefix`. */
export function cookiesNamed (header: string | undefined, prefix: string): SentCookie[] {
  const pairs = (header ?? '').split(';').map((pair) => pair.trim()).filter((pair) => pair.startsWith(prefix))
  return pairs.map(parsePair).filter(({ name }) => NAME.test(name))
}

function parsePair (pair: string): SentCookie {
  const name = pair.split('=', 1)[0] as string
  const separator = '; '
  return { name, value: pair.slice(name.length + 1), bytes: pair.length + separator.length }
}

/** The names that begin with `prefix`, each once. */
export function cookieNames (header: string | undefined, prefix: string): string[] {
  return [...new Set(cookiesNamed(header, prefix).map(({ name }) => name))]
}

export function totalBytes (cookies: readonly SentCookie[]): number {
  return cookies.reduce((sum, { bytes }) => sum + bytes, 0)
}

const MAX_DESCRIBED = 5
/** In characters. */
const MAX_NAME = 40

/** The names and sizes of the largest cookies, for the log. */
export function describeCookies (cookies: readonly SentCookie[]): string {
  const largest = [...cookies].sort((a, b) => b.bytes - a.bytes)
  const described = largest.slice(0, MAX_DESCRIBED).map(({ name, bytes }) => `${name.slice(0, MAX_NAME)} ${bytes}`)
  const more = largest.length - described.length
  return [...described, ...(more > 0 ? [`${more} more`] : [])].join(', ')
}

/** Adds a Set-Cookie header and keeps those that the reply already has. */
export function addSetCookie (reply: FastifyReply, setCookie: string): void {
  reply.header('set-cookie', setCookie)
}

/** Puts Set-Cookie headers into the place of those that were set before, and keeps all others of the reply. */
export function replaceSetCookies (reply: FastifyReply, before: readonly string[], after: readonly string[]): void {
  const lines = replaced(reply.getHeader('set-cookie'), before, after)
  reply.removeHeader('set-cookie') // also from the response of Node
  if (lines.length > 0) reply.header('set-cookie', lines)
}

/** The same, also for an application that replies without Fastify: `reply.hijack()`, `reply.raw.end()`. */
export function replaceSetCookiesEarly (
  reply: FastifyReply,
  before: readonly string[],
  after: readonly string[]
): void {
  const lines = replaced(reply.raw.getHeader('set-cookie'), before, after)
  replaceSetCookies(reply, before, after)
  if (lines.length > 0) reply.raw.setHeader('set-cookie', lines)
}

function replaced (present: unknown, before: readonly string[], after: readonly string[]): string[] {
  return [...[present ?? []].flat().map(String).filter((line) => !before.includes(line)), ...after]
}
