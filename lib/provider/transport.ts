import { OidcError, RETRY_AFTER } from '../errors.ts'
import { printable } from '../http/params.ts'
import { atMost, LateError } from '../util/at-most.ts'
import { createConnections } from './connections.ts'
import { describeFailure } from './failure.ts'
import { readBody } from './response-body.ts'
import { createSend } from './send.ts'
import type { TransportSettings } from '../options/transport.ts'
import type { MeasureRequest } from '../telemetry.ts'
import type { Connections } from './connections.ts'
import type { Answer } from './send.ts'
import type { Fetch } from '../../types/options.ts'

/**
 * Every request to a provider has a timeout and a limit for the size of the response, and does not follow redirects.
 * `nameOf` names what is called, for the log and for `measure`. Throws FST_OIDC_PROVIDER_UNAVAILABLE or
 * FST_OIDC_PROVIDER_RESPONSE.
 */
export function createTransport (
  settings: TransportSettings,
  connections: Connections = createConnections(),
  nameOf: (url: string) => string | undefined = () => undefined,
  measure?: MeasureRequest
): Fetch {
  const send = createSend(settings, connections)

  async function transport (url: string, init: RequestInit): Promise<Response> {
    const controller = new AbortController()
    const { signal } = controller
    const name = nameOf(url)
    const target = `${name === undefined ? '' : `${name} `}${new URL(url).origin}`
    const call = async (): Promise<Response> => {
      const answer = await send(url, init, signal)
      checkStatus(target, url, answer)
      const bytes = await readBody(answer.body, answer.encoding, settings.maxResponseBytes)
      return toBufferedResponse(answer, bytes, name)
    }
    try {
      // The `fetch` of an application may ignore the signal. All logins wait for one fetch of the metadata or the keys.
      return await atMost(settings.timeout, call, () => {
        controller.abort()
        return new LateError()
      })
    } catch (cause) {
      if (cause instanceof OidcError) throw cause
      const reason = signal.aborted ? `timeout after ${settings.timeout} s` : describeFailure(cause)
      throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { cause, detail: `${target}: ${reason}` })
    }
  }

  if (measure === undefined) return transport
  return async (url, init) => await measure(nameOf(url)?.replaceAll(' ', '_'), async () => await transport(url, init))
}

/** Whether the content type of a response is JSON (RFC 8259), or a type with the suffix +json (RFC 6839). */
export function isJson (response: Response): boolean {
  return /^application\/(?:[\w.-]+\+)?json\b/i.test(response.headers.get('content-type') ?? '')
}

/** What a response is, for the log: `token endpoint: 400 text/html`. */
export function describeResponse (response: Response): string {
  const { name = 'the provider', description } = response as Partial<BufferedResponse>
  if (description !== undefined) return description
  const type = response.headers.get('content-type')?.split(';', 1)[0]?.slice(0, 100) ?? 'without a content type'
  return `${name}: ${response.status} ${type}`
}

/** A response that stands for another one. In the log, it is that one. */
export function insteadOf (original: Response, response: Response, remark = ''): Response {
  return Object.assign(response, { description: describeResponse(original) + remark })
}

/** A response with this JSON value, instead of another one. In the log, it is that one. */
export function jsonInsteadOf (original: Response, value: unknown, status = 200, remark = ''): Response {
  const response = Object.create(jsonResponse) as JsonResponse
  return insteadOf(original, Object.assign(response, { status, headers: JSON_HEADERS, value }) as never, remark)
}

function checkStatus (target: string, url: string, answer: Answer): void {
  const { status } = answer
  if (status >= 300 && status < 400) {
    answer.discard()
    const detail = `${target}: redirects are not followed${destinationOf(url, answer)}`
    throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { detail, kind: 'redirect' })
  }
  if (status === 429 || status >= 500) {
    answer.discard()
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', {
      detail: `${target}: status ${status}`,
      kind: status === 429 ? 'busy' : undefined,
      retryAfter: retryAfter(answer)
    })
  }
}

// Without the query: it may contain what was sent.
function destinationOf (url: string, { headers }: Answer): string {
  const location = headers.get('location')
  if (location === null || !URL.canParse(location, url)) return ''
  const { origin, pathname } = new URL(location, url)
  return ` (to ${printable(origin + pathname)})`
}

// RFC 9110, section 10.2.3. The form with a date counts as no value.
function retryAfter ({ headers }: Answer): number {
  const seconds = Number(headers.get('retry-after') ?? NaN)
  return seconds >= 1 && seconds <= 3600 ? Math.ceil(seconds) : RETRY_AFTER
}

function toBufferedResponse ({ status, headers }: Answer, bytes: Uint8Array, name: string | undefined): Response {
  const response = Object.create(bufferedResponse) as BufferedResponse
  return Object.assign(response, { status, headers, bytes, name }) as unknown as Response
}

const utf8 = new TextDecoder()

interface BufferedResponse {
  status: number
  headers: Headers
  bytes: Uint8Array
  /** What was called. */
  name: string | undefined
  /** Of the response that it stands for. */
  description?: string
}

/** A response that was read to its end. It has only the parts of a Response that are used here, and no streams. */
const bufferedResponse = {
  [Symbol.toStringTag]: 'Response',
  body: null,
  bodyUsed: false,
  clone () {
    return this
  },
  async text (this: BufferedResponse) {
    return utf8.decode(this.bytes)
  },
  async json (this: BufferedResponse) {
    return JSON.parse(utf8.decode(this.bytes)) as unknown
  }
}

const JSON_HEADERS = new Headers({ 'content-type': 'application/json' })

interface JsonResponse {
  status: number
  headers: Headers
  value: unknown
}

/** A response with a JSON value that nothing has to read. */
const jsonResponse = {
  [Symbol.toStringTag]: 'Response',
  body: null,
  bodyUsed: false,
  clone () {
    return this
  },
  async json (this: JsonResponse) {
    return this.value
  }
}
