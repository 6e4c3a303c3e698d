import { OidcError } from './errors.ts'
import type { Settings } from './options.ts'
import type { Fetch } from '../types/options.ts'

/** All that anybody reads of a response: copying the rest costs more than reading the body. */
const HEADERS = ['content-type', 'www-authenticate']

/**
 * The only place that calls fetch: every call to a provider has a timeout and a size cap, follows no redirect,
 * and fails with FST_OIDC_PROVIDER_UNAVAILABLE or FST_OIDC_PROVIDER_RESPONSE (security.md S81).
 */
export function createTransport (settings: Pick<Settings, 'fetch' | 'dispatcher' | 'timeout' | 'maxResponseBytes'>): Fetch {
  const common = { redirect: 'manual', ...(settings.dispatcher !== undefined && { dispatcher: settings.dispatcher }) }
  return async function transport (url, init) {
    const signal = AbortSignal.timeout(settings.timeout * 1000)
    try {
      const response = await settings.fetch(url, { ...init, ...common, signal } as RequestInit)
      checkStatus(url, response)
      return await readWhole(response, settings.maxResponseBytes)
    } catch (cause) {
      throw cause instanceof OidcError ? cause : new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { cause, detail: `${origin(url)}: no answer` })
    }
  }
}

/** Whether a response says that it is JSON (RFC 8259, or a type with the suffix +json). */
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
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { detail: `${origin(url)}: status ${status}`, retryAfter: retryAfter(response) })
  }
}

// RFC 9110, section 10.2.3; the form with a date is not worth its parser here.
function retryAfter (response: Response): number {
  const seconds = Number(response.headers.get('retry-after') ?? NaN)
  return seconds >= 1 && seconds <= 3600 ? Math.ceil(seconds) : 5
}

async function readWhole (response: Response, limit: number): Promise<Response> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of response.body ?? []) {
    length += chunk.length
    if (length > limit) throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { detail: `the response is larger than ${limit} bytes` })
    chunks.push(chunk)
  }
  return new Response(length === 0 ? null : Buffer.concat(chunks, length), { status: response.status, headers: pickHeaders(response.headers) })
}

function pickHeaders (headers: Headers): Array<[string, string]> {
  return HEADERS.flatMap((name): Array<[string, string]> => {
    const value = headers.get(name)
    return value === null ? [] : [[name, value]]
  })
}

function drop (response: Response): void {
  response.body?.cancel().catch(() => {})
}

function origin (url: string): string {
  return new URL(url).origin
}
