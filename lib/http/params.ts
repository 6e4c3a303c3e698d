import { parse } from 'node:querystring'
import { OidcError } from '../errors.ts'
import type { FastifyRequest } from 'fastify'

/** The parameters of a request. A parameter that comes twice is refused (RFC 6749, section 3.1). */
export type Params = ReadonlyMap<string, string>

const MAX_PARAMS = 100
const MAX_VALUE = 4096 // characters

/** The query, read from the URL itself: the application may have its own query parser. */
export function queryParams (request: FastifyRequest): Params {
  const url = request.raw.url as string
  const mark = url.indexOf('?')
  return readParams(mark === -1 ? '' : url.slice(mark + 1))
}

/** The posted form. The content type parser of the plugin's scope leaves the body as text. */
export function formParams (request: FastifyRequest, maxValue?: number): Params {
  return readParams(typeof request.body === 'string' ? request.body : '', maxValue)
}

function readParams (text: string, maxValue = MAX_VALUE): Params {
  const params = new Map<string, string>()
  for (const [name, value] of Object.entries(parse(text, '&', '=', { maxKeys: MAX_PARAMS }))) {
    const isValid = typeof value === 'string' && value.length <= maxValue && isText(value)
    if (!isValid) throw new OidcError('FST_OIDC_PARAMETER')
    params.set(name, value)
  }
  return params
}

// Node replaces invalid UTF-8 by U+FFFD. No provider sends that, or a NUL.
function isText (value: string): boolean {
  // eslint-disable-next-line no-control-regex
  return !/[\u0000\ufffd]/.test(value)
}
