import { parse } from 'node:querystring'
import { OidcError } from '../errors.ts'
import type { FastifyRequest } from 'fastify'

/** Parameters by name. A value that is read is checked; reading it may throw FST_OIDC_PARAMETER. */
export interface Params {
  has: (name: string) => boolean
  get: (name: string) => string | undefined
}

/** Parameters that a browser brings. Only what is read is checked: others add parameters of their own. */
export interface BrowserParams extends Params {
  /** `maxLength` in characters. A parameter that comes twice is refused (RFC 6749, section 3.1). */
  get: (name: string, maxLength?: number) => string | undefined
  /** A value of any length and encoding, which must not come twice. */
  getAny: (name: string) => string | undefined
}

const MAX_PARAMS = 1000
const MAX_OF_PROGRAMS = 100
const MAX_VALUE = 4096 // characters

/** The query, read from the URL itself: the application may have its own query parser. */
export function queryParams (request: FastifyRequest): BrowserParams {
  const url = request.raw.url as string
  const mark = url.indexOf('?')
  return browserParams(mark === -1 ? '' : url.slice(mark + 1))
}

/** The posted form. The content type parser of the plugin's scope leaves the body as text. */
export function formParams (request: FastifyRequest): BrowserParams {
  return browserParams(bodyOf(request))
}

/** The form of a program, with every parameter checked (RFC 6749, section 3.2). */
export function checkedFormParams (request: FastifyRequest, maxLength: number): ReadonlyMap<string, string> {
  const values = Object.entries(parse(bodyOf(request), '&', '=', { maxKeys: MAX_OF_PROGRAMS }))
  return new Map(values.map(([name, value]) => [name, checkText(name, checkOnce(name, value), maxLength)]))
}

function browserParams (text: string): BrowserParams {
  const values = new Map(Object.entries(parse(text, '&', '=', { maxKeys: MAX_PARAMS })))
  const read = <T>(name: string, check: (value: string | string[]) => T): T | undefined => {
    const value = values.get(name)
    return value === undefined ? undefined : check(value)
  }
  return {
    has: (name) => values.has(name),
    get: (name, maxLength = MAX_VALUE) => read(name, (value) => checkText(name, checkOnce(name, value), maxLength)),
    getAny: (name) => read(name, (value) => checkOnce(name, value))
  }
}

function bodyOf ({ body }: FastifyRequest): string {
  return typeof body === 'string' ? body : ''
}

function checkOnce (name: string, value: string | string[] | undefined): string {
  if (typeof value === 'string') return value
  throw refused(name, 'comes twice')
}

function checkText (name: string, value: string, maxLength: number): string {
  if (value.length > maxLength) throw refused(name, `has ${value.length} characters, ${maxLength} is the limit`)
  // Node replaces invalid UTF-8 by U+FFFD. No provider sends that, or a NUL.
  // eslint-disable-next-line no-control-regex
  if (/[\u0000\ufffd]/.test(value)) throw refused(name, 'is not UTF-8, or contains a NUL')
  return value
}

function refused (name: string, reason: string): OidcError {
  return new OidcError('FST_OIDC_PARAMETER', { detail: `the parameter ${printable(name)} ${reason}` })
}

/** The start of a text from outside, for the log. */
export function printable (text: string): string {
  return text.slice(0, 200).replace(/[^\x20-\x7e]/g, '?')
}
