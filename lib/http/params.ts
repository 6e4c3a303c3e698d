import { parse } from 'node:querystring'
import { OidcError } from '../errors.ts'
import type { FastifyRequest } from 'fastify'

/** Parameters of a request, each there once: a second one of a name is refused (RFC 6749, section 3.1). */
export type Params = ReadonlyMap<string, string>

const MAX_VALUE = 4096

/** The query, read from the URL itself: what an application's own query parser makes of it does not matter here. */
export function queryParams (request: FastifyRequest): Params {
  const url = request.raw.url as string
  const mark = url.indexOf('?')
  return readParams(mark === -1 ? '' : url.slice(mark + 1))
}

/** The form that was posted; the scope's parser leaves it as text. */
export function formParams (request: FastifyRequest, maxValue?: number): Params {
  return readParams(typeof request.body === 'string' ? request.body : '', maxValue)
}

function readParams (text: string, maxValue = MAX_VALUE): Params {
  const params = new Map<string, string>()
  for (const [name, value] of Object.entries(parse(text, '&', '=', { maxKeys: 100 }))) {
    // What is not a text of Unicode (Node puts U+FFFD for it) or holds a NUL was not written by any provider.
    // eslint-disable-next-line no-control-regex
    if (typeof value !== 'string' || value.length > maxValue || /[\u0000\ufffd]/.test(value)) {
      throw new OidcError('FST_OIDC_PARAMETER')
    }
    params.set(name, value)
  }
  return params
}
