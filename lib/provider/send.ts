import { globalFetch, isFetchChanged } from './global-fetch.ts'
import { ACCEPT_ENCODING } from './response-body.ts'
import type { IncomingHttpHeaders } from 'node:http'
import type { Readable } from 'node:stream'
import type { TransportSettings } from '../options/transport.ts'
import type { Connections } from './connections.ts'
import type { Dispatcher, Fetch } from '../../types/options.ts'

/** A response whose body is still to be read. */
export interface Answer {
  status: number
  headers: Headers
  /** Each chunk as it comes. */
  body: AsyncIterable<Uint8Array>
  /** How the body is compressed. `null` when it is not, or not any more. */
  encoding: string | null
  /** Gives up the body, and with it the connection. */
  discard: () => void
}

/** Sends one request, and follows no redirect. */
export type Send = (url: string, init: RequestInit, signal: AbortSignal) => Promise<Answer>

/**
 * Chooses how to send a request. The choice is made at each request, because applications replace the global `fetch`
 * when they want to: they mock, observe or redirect requests with it.
 */
export function createSend (
  settings: Pick<TransportSettings, 'fetch' | 'dispatcher'>,
  connections: Connections
): Send {
  const { dispatcher } = settings
  const byFetch = sendByFetch(settings.fetch ?? globalFetch, dispatcher)
  if (settings.fetch !== undefined) return byFetch
  const standard = dispatcher === undefined ? sendByNode(connections) : sendByDispatcher(dispatcher) ?? byFetch
  return async (url, init, signal) => await (isFetchChanged(dispatcher) ? byFetch : standard)(url, init, signal)
}

function sendByFetch (fetching: Fetch, dispatcher: Dispatcher | undefined): Send {
  const common = { redirect: 'manual', ...(dispatcher !== undefined && { dispatcher }) }
  return async (url, init, signal) => {
    const response = await fetching(url, { ...init, ...common, signal } as RequestInit)
    const { headers, body, type } = response
    return {
      status: type === 'opaqueredirect' ? 302 : response.status,
      headers,
      body: body ?? nothing(),
      encoding: null,
      discard: () => { body?.cancel?.().catch(() => {}) }
    }
  }
}

async function * nothing (): AsyncGenerator<Uint8Array> {}

function sendByNode (connections: Connections): Send {
  return async (url, init, signal) => {
    const { body, ...options } = toPlainRequest(init)
    const message = await connections.request(url, { ...options, signal }, body)
    return answerOf(message.statusCode as number, message.headers, message)
  }
}

/** The part of undici's dispatchers that sends one request. */
interface Requester extends Dispatcher {
  request: (options: object) => Promise<{ statusCode: number, headers: IncomingHttpHeaders, body: Readable }>
}

/** A dispatcher only goes with the version of undici that it comes from, which need not be that of Node.js. */
function sendByDispatcher (dispatcher: Dispatcher): Send | undefined {
  if (!isRequester(dispatcher)) return undefined
  return async (url, init, signal) => {
    const { origin, pathname, search } = new URL(url)
    // An interceptor would follow redirects unless the request forbids it.
    const options = { origin, path: pathname + search, ...toPlainRequest(init), signal, maxRedirections: 0 }
    const { statusCode, headers, body } = await dispatcher.request(options)
    return answerOf(statusCode, headers, body)
  }
}

function isRequester (dispatcher: Dispatcher): dispatcher is Requester {
  return 'request' in dispatcher && typeof dispatcher.request === 'function'
}

interface PlainRequest {
  method: string
  headers: Record<string, string>
  body: string | undefined
}

/** A request as openid-client makes it, with text or URLSearchParams as its body. Some servers require a user agent. */
function toPlainRequest ({ method, headers, body }: RequestInit): PlainRequest {
  const own = { 'user-agent': 'fastify-oidc', 'accept-encoding': ACCEPT_ENCODING }
  return {
    method: method ?? 'GET',
    headers: { ...own, ...Object.fromEntries(new Headers(headers)) },
    body: body == null ? undefined : String(body)
  }
}

function answerOf (status: number, headers: IncomingHttpHeaders, body: Readable): Answer {
  body.on('error', () => {}) // also of a body that is given up
  return {
    status,
    headers: new Headers(Object.entries(headers as ReceivedHeaders).flatMap(([name, value]) => linesOf(name, value))),
    body,
    encoding: headers['content-encoding'] ?? null,
    discard: () => body.destroy()
  }
}

/** Only what has come: the types of Node.js also name headers that may be absent. */
type ReceivedHeaders = Record<string, string | string[]>

function linesOf (name: string, value: string | string[]): Array<[name: string, value: string]> {
  return [value].flat().map((line) => [name, line])
}
