import { OidcError } from '../errors.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { Fetch } from '../../types/options.ts'

/**
 * The only place that calls fetch. Every request to a provider has a timeout and a limit for the size of the response,
 * and does not follow redirects. Throws FST_OIDC_PROVIDER_UNAVAILABLE or FST_OIDC_PROVIDER_RESPONSE (security.md S81).
 */
export function createTransport (
  settings: Pick<ProviderSettings, 'fetch' | 'dispatcher' | 'timeout' | 'maxResponseBytes'>
): Fetch {
  const common = { redirect: 'manual', ...(settings.dispatcher !== undefined && { dispatcher: settings.dispatcher }) }
  return async function transport (url, init) {
    const signal = AbortSignal.timeout(settings.timeout * 1000)
    try {
      const response = await settings.fetch(url, { ...init, ...common, signal } as RequestInit)
      checkStatus(url, response)
      return await readWhole(response, settings.maxResponseBytes)
    } catch (cause) {
      throw cause instanceof OidcError
        ? cause
        : new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { cause, detail: `${origin(url)}: no answer` })
    }
  }
}

/** Whether the content type of a response is JSON (RFC 8259), or a type with the suffix +json (RFC 6839). */
export function isJson (response: Response): boolean {
  return /^application\/(?:[\w.-]+\+)?json\b/i.test(response.headers.get('content-type') ?? '')
}

function checkStatus (url: string, response: Response): void {
  const { status } = response
  if (response.type === 'opaqueredirect' || (status >= 300 && status < 400)) {
    drop(response)
    throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { detail: `${origin(url)}: redirects are not followed` })
  }
  if (status === 429 || status >= 500) {
    drop(response)
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', {
      detail: `${origin(url)}: status ${status}`,
      retryAfter: retryAfter(response)
    })
  }
}

// RFC 9110, section 10.2.3. The form with a date counts as no value.
function retryAfter (response: Response): number {
  const seconds = Number(response.headers.get('retry-after') ?? NaN)
  return seconds >= 1 && seconds <= 3600 ? Math.ceil(seconds) : 5
}

async function readWhole (response: Response, limit: number): Promise<Response> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of response.body ?? []) {
    length += chunk.length
    if (length > limit) {
      throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { detail: `the response is larger than ${limit} bytes` })
    }
    chunks.push(chunk)
  }
  const { status, headers } = response
  return Object.assign(Object.create(whole) as Whole, {
    status,
    headers,
    bytes: chunks.length === 1 ? chunks[0] : Buffer.concat(chunks, length)
  }) as unknown as Response
}

const utf8 = new TextDecoder()

interface Whole {
  status: number
  headers: Headers
  bytes: Uint8Array
}

/** A response that was read to its end. It has only the parts of a Response that are used here, and no streams. */
const whole = {
  [Symbol.toStringTag]: 'Response',
  body: null,
  bodyUsed: false,
  clone () {
    return this
  },
  async text (this: Whole) {
    return utf8.decode(this.bytes)
  },
  async json (this: Whole) {
    return JSON.parse(utf8.decode(this.bytes)) as unknown
  }
}

function drop (response: Response): void {
  response.body?.cancel().catch(() => {})
}

function origin (url: string): string {
  return new URL(url).origin
}
