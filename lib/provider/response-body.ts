import { promisify } from 'node:util'
import { brotliDecompress, constants, gunzip, inflate, inflateRaw } from 'node:zlib'
import { OidcError } from '../errors.ts'

/** The content codings that are decoded (RFC 9110, section 8.4.1). */
export const ACCEPT_ENCODING = 'gzip, deflate, br'

/** How many codings one response may have. Each costs as much as the size limit allows. */
const MAX_CODINGS = 3

type Decoder = (bytes: Uint8Array, maxOutputLength: number) => Promise<Uint8Array>

// As `fetch` does, this reads what has arrived also where the end of the compressed data is missing.
const zlib = { flush: constants.Z_SYNC_FLUSH, finishFlush: constants.Z_SYNC_FLUSH }
const brotli = { flush: constants.BROTLI_OPERATION_FLUSH, finishFlush: constants.BROTLI_OPERATION_FLUSH }

const fromGzip: Decoder = async (bytes, maxOutputLength) => await promisify(gunzip)(bytes, { ...zlib, maxOutputLength })
const fromBrotli: Decoder = async (bytes, maxOutputLength) =>
  await promisify(brotliDecompress)(bytes, { ...brotli, maxOutputLength })
// Some servers leave out the header of zlib, whose first byte ends in 8 (RFC 1950, section 2.2).
const fromDeflate: Decoder = async (bytes, maxOutputLength) =>
  await promisify(((bytes[0] as number) & 0x0f) === 8 ? inflate : inflateRaw)(bytes, { ...zlib, maxOutputLength })

const DECODERS = new Map([['gzip', fromGzip], ['x-gzip', fromGzip], ['deflate', fromDeflate], ['br', fromBrotli]])

/**
 * Reads a body to its end. Neither the body nor what it decompresses to may be larger than the limit. Throws
 * FST_OIDC_PROVIDER_RESPONSE, or an error of the connection or of zlib.
 */
export async function readBody (
  body: AsyncIterable<Uint8Array>,
  encoding: string | null,
  limit: number
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of body) {
    length += chunk.length
    if (length > limit) throw tooLarge(limit)
    chunks.push(chunk)
  }
  const bytes = chunks.length === 1 ? chunks[0] as Uint8Array : Buffer.concat(chunks, length)
  return encoding === null || length === 0 ? bytes : await decode(bytes, encoding, limit)
}

// As `fetch` does, this leaves a body with an unknown coding as it is.
async function decode (bytes: Uint8Array, encoding: string, limit: number): Promise<Uint8Array> {
  const decoders = encoding.split(',').map((coding) => DECODERS.get(coding.trim().toLowerCase()))
  if (decoders.length > MAX_CODINGS || !decoders.every((decoder) => decoder !== undefined)) return bytes
  let decoded = bytes
  for (const decoder of decoders.reverse()) {
    decoded = await decoder(decoded, limit).catch((error: NodeJS.ErrnoException) => {
      throw error.code === 'ERR_BUFFER_TOO_LARGE' ? tooLarge(limit) : error
    })
  }
  return decoded
}

function tooLarge (limit: number): OidcError {
  return new OidcError('FST_OIDC_PROVIDER_RESPONSE', { detail: `the response is larger than ${limit} bytes` })
}
