import { Agent, request } from 'node:http'
import type { IncomingHttpHeaders } from 'node:http'
import type { Injectable } from '../../lib/testing/index.ts'

/** A request to one process of the application; `url` is a path with its query. */
export interface Sent {
  method: string
  url: string
  headers: Record<string, string>
  payload?: string
}

/** The response, in the form that `inject` returns. */
export interface Answer {
  statusCode: number
  headers: IncomingHttpHeaders
  rawPayload: Buffer
}

export interface Remote {
  send: (sent: Sent) => Promise<Answer>
  /** An application for `client` of the test kit, whose requests then use these connections. */
  injectable: Injectable
  /** Sends a request and closes the connection without waiting for the response. */
  abandon: (sent: Sent, milliseconds: number) => Promise<void>
  close: () => void
}

const MAX_WAIT = 20_000 // milliseconds

/** One process of the application, over keep-alive connections. `watch` is called with every response. */
export function openRemote (port: number, watch: (sent: Sent, answer: Answer, sentAt: number) => void): Remote {
  const agent = new Agent({ keepAlive: true, maxSockets: 128 })

  async function send (sent: Sent): Promise<Answer> {
    const sentAt = Date.now()
    const answer = await exchange(agent, port, sent)
    watch(sent, answer, sentAt)
    return answer
  }

  return {
    send,
    injectable: { inject: send } as unknown as Injectable,
    abandon: async (sent, milliseconds) => await abandon(port, sent, milliseconds),
    close: () => agent.destroy()
  }
}

function exchange (agent: Agent, port: number, { method, url, headers, payload }: Sent): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        agent,
        host: '127.0.0.1',
        port,
        method,
        path: url,
        headers: withLength(headers, payload),
        setHost: false,
        timeout: MAX_WAIT
      },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () =>
          resolve({
            statusCode: response.statusCode as number,
            headers: response.headers,
            rawPayload: Buffer.concat(chunks)
          })
        )
        response.on('error', reject)
      }
    )
    outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer within ${MAX_WAIT} ms`)))
    outgoing.on('error', reject)
    outgoing.end(payload)
  })
}

function withLength (headers: Record<string, string>, payload: string | undefined): Record<string, string> {
  return payload === undefined ? headers : { ...headers, 'content-length': String(Buffer.byteLength(payload)) }
}

function abandon (port: number, { method, url, headers }: Sent, milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    const outgoing = request(
      { agent: false, host: '127.0.0.1', port, method, path: url, headers, setHost: false },
      (response) => response.resume()
    )
    outgoing
      .on('error', () => {})
      .on('close', resolve)
      .end()
    setTimeout(() => outgoing.destroy(), milliseconds)
  })
}
