import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { change } from './fault-effects.ts'
import type { ServerResponse } from 'node:http'
import type { Answer } from './answer.ts'
import type { Fault } from './types.ts'
import type { Garbage } from './fault-effects.ts'

const text = ({ body }: Answer): string => body.toString()

const withBody = (answer: Answer, body: Answer['body'], headers: Record<string, string> = {}): Answer =>
  ({ ...answer, headers: { ...answer.headers, ...headers }, body })

// The padding comes first in the right response, so a client that accepts it continues without an error
const padded = (answer: Answer, padding: string): string => {
  const body = text(answer)
  return body.length > 2 && body.startsWith('{') ? `{"padding":${padding},${body.slice(1)}` : `{"padding":${padding}}`
}

const megabyte = Buffer.alloc(2 ** 20, 'a')

const inflated = (answer: Answer, megabytes: number, pack: (part: Buffer) => Buffer): Iterable<Buffer> => {
  const [head = '', tail = ''] = padded(answer, '"|"').split('|')
  const packed = pack(megabyte)
  return (function * () {
    yield pack(Buffer.from(head))
    for (let i = 0; i < megabytes; i++) yield packed
    yield pack(Buffer.from(tail))
  })()
}

const depth = 100_000

const garbages: Record<Garbage, (answer: Answer, megabytes: number) => Answer> = {
  html: (answer) => withBody(answer, '<!doctype html><h1>Maintenance</h1>', { 'content-type': 'text/html' }),
  empty: (answer) => withBody(answer, ''),
  truncated: (answer) => withBody(answer, text(answer).slice(0, -10)),
  array: (answer) => withBody(answer, `[${text(answer)}]`),
  null: (answer) => withBody(answer, 'null'),
  number: (answer) => withBody(answer, '42'),
  string: (answer) => withBody(answer, JSON.stringify(text(answer))),
  'content-type': (answer) => withBody(answer, text(answer), { 'content-type': 'text/plain' }),
  'no-content-type': ({ headers: { 'content-type': _, ...headers }, ...answer }) => ({ ...answer, headers }),
  'gzip-bomb': (answer, megabytes) =>
    withBody(answer, inflated(answer, megabytes, gzipSync), { 'content-encoding': 'gzip' }),
  huge: (answer, megabytes) => withBody(answer, inflated(answer, megabytes, (part) => part)),
  deep: (answer) => withBody(answer, padded(answer, '['.repeat(depth) + ']'.repeat(depth))),
  'duplicate-keys': (answer) => withBody(answer, text(answer).replace(/^\{("[^"]+"):/, '{$1:"duplicate",$1:')),
  bom: (answer) => withBody(answer, `\ufeff${text(answer)}`),
  'invalid-utf8': (answer) => {
    const [head = '', tail = ''] = padded(answer, '"|"').split('|')
    return withBody(answer, Buffer.concat([Buffer.from(head), Buffer.from([0xff, 0xc3, 0x28]), Buffer.from(tail)]))
  }
}

const replaces = ({ status, body, redirect, hang, reset }: Fault): boolean =>
  status !== undefined || body !== undefined || redirect !== undefined || hang === true || reset === true

/** Whether the faults replace the response, so that the endpoint does not handle the request. */
export const skipsEndpoint = (faults: Fault[]): boolean => faults.some((fault) => replaces(fault) && !fault.after)

export const blank: Answer = { status: 200, headers: { 'content-type': 'text/plain' }, body: '' }

const substitute = (answer: Answer, { status, body, redirect }: Fault): Answer => {
  if (redirect !== undefined) return { status: status ?? 302, headers: { location: redirect }, body: '' }
  if (status === undefined && body === undefined) return answer
  return { ...answer, status: status ?? answer.status, body: body ?? `status ${status}` }
}

/** Applies a fault of the network to a response. */
export const deform = (answer: Answer, fault: Fault): Answer => {
  const replaced = substitute(answer, fault)
  const spoiled = fault.garbage ? garbages[fault.garbage](replaced, fault.megabytes ?? 50) : replaced
  return change({ ...spoiled, headers: { ...spoiled.headers, ...fault.headers } }, fault.answer)
}

const bytesOf = (body: Answer['body']): Buffer =>
  typeof body === 'string' || Buffer.isBuffer(body) ? Buffer.from(body) : Buffer.concat([...body])

const drip = (res: ServerResponse, body: Buffer, pause: number, signal: AbortSignal): Promise<void> =>
  pipeline(async function * () {
    for (const byte of body) {
      yield Buffer.of(byte)
      await sleep(pause, undefined, { signal, ref: false })
    }
  }, res)

const cut = (res: ServerResponse, body: Buffer): void => {
  res.setHeader('content-length', body.length)
  res.write(body.subarray(0, body.length / 2), () => res.destroy())
}

const writeBody = async (res: ServerResponse, body: Answer['body']): Promise<void> => {
  if (typeof body === 'string' || Buffer.isBuffer(body)) res.end(body)
  else await pipeline(Readable.from(body), res)
}

type Send = (res: ServerResponse, answer: Answer, faults: Fault[], signal: AbortSignal) => Promise<void>

const write: Send = async (res, { status, headers, body }, faults, signal) => {
  const slow = faults.find((fault) => fault.drip)?.drip
  for (const [name, value] of Object.entries(headers)) res.setHeader(name, value)
  res.statusCode = status
  if (faults.some((fault) => fault.stall)) res.flushHeaders()
  else if (faults.some((fault) => fault.cut)) cut(res, bytesOf(body))
  else if (slow) await drip(res, bytesOf(body), slow === true ? 1000 : slow, signal)
  else await writeBody(res, body)
}

/** Sends the response, or what a fault does instead. */
export const send: Send = async (res, answer, faults, signal) => {
  if (faults.some((fault) => fault.hang)) return
  // These faults make clients disconnect, which is not an error here
  if (faults.some((fault) => fault.reset)) res.destroy()
  else await write(res, answer, faults, signal).catch(() => res.destroy())
}
