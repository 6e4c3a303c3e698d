import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { IncomingMessage } from 'node:http'
import type { FastifyInstance } from 'fastify'

export interface WireRequest {
  method: string
  url: URL
  headers: Record<string, string>
  body: string | undefined
}

export interface WireResponse {
  status: number
  headers: Headers
  body: Buffer
}

export type Wire = (request: WireRequest) => Promise<WireResponse>

/** The part of an application that `client` needs. */
export type Injectable = Pick<FastifyInstance, 'inject'>

type HeaderValue = string | number | string[] | undefined

const toHeaders = (values: Record<string, HeaderValue>): Headers => {
  const headers = new Headers()
  for (const [name, value] of Object.entries(values)) {
    for (const line of [value ?? []].flat()) headers.append(name, String(line))
  }
  return headers
}

/** The header of a posted form. */
export const formType = { 'content-type': 'application/x-www-form-urlencoded' }

/** Sends requests to an application without a network. */
export const injectWire = (app: Injectable): Wire => async ({ method, url, headers, body }) => {
  const response = await app.inject({
    method: method as 'GET',
    url: `${url.pathname}${url.search}`,
    headers: { host: url.host, ...headers },
    ...(body !== undefined && { payload: body })
  })
  return { status: response.statusCode, headers: toHeaders(response.headers), body: response.rawPayload }
}

const readAll = async (response: IncomingMessage): Promise<WireResponse> => {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return { status: response.statusCode!, headers: toHeaders(response.headers), body: Buffer.concat(chunks) }
}

/** Sends requests over the network. Not by `fetch`, which adds Sec-Fetch headers and keeps connections open. */
export const httpWire = (ca: string | undefined): Wire => ({ method, url, headers, body }) => {
  const options = { method, headers, agent: false as const, ...(ca !== undefined && { ca }) }
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest
  return new Promise((resolve, reject) => {
    send(url, options, (response) => { readAll(response).then(resolve, reject) })
      .on('error', reject)
      .end(body)
  })
}
