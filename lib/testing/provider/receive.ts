import { findEndpoint } from './paths.ts'
import type { IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
import type { Context } from './context.ts'
import type { ProviderRequest } from './types.ts'

const readBody = async (req: IncomingMessage): Promise<string> => {
  const chunks: Buffer[] = []
  for await (const chunk of req) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}

const formFields = (req: IncomingMessage, rawBody: string): URLSearchParams =>
  new URLSearchParams(/^application\/x-www-form-urlencoded\b/i.test(req.headers['content-type'] ?? '') ? rawBody : '')

const certificateName = (req: IncomingMessage): { clientCertificate?: string } => {
  const name = (req.socket as Partial<TLSSocket>).getPeerCertificate?.().subject?.CN
  return name === undefined ? {} : { clientCertificate: `CN=${name}` }
}

interface Received {
  request: ProviderRequest
  duplicate: string | undefined
}

// No parameter may occur twice (RFC 6749, section 3.1), except `resource` (RFC 8707, section 2)
const findDuplicate = (params: URLSearchParams): string | undefined =>
  [...params.keys()].find((name) => name !== 'resource' && params.getAll(name).length > 1)

export const receive = async ({ options, url }: Context, req: IncomingMessage): Promise<Received> => {
  const { pathname, searchParams } = new URL(req.url!, url)
  const rawBody = await readBody(req)
  const fields = formFields(req, rawBody)
  const request: ProviderRequest = {
    endpoint: findEndpoint(options, pathname),
    method: req.method!,
    path: pathname,
    query: Object.fromEntries(searchParams),
    headers: req.headers,
    body: Object.fromEntries(fields),
    rawBody,
    ...certificateName(req)
  }
  return { request, duplicate: findDuplicate(searchParams) ?? findDuplicate(fields) }
}
