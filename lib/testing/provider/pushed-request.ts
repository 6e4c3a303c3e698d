import { json } from './answer.ts'
import { authenticateClient } from './authenticate-client.ts'
import { checkPushed } from './authorization-request.ts'
import { now, random } from './context.ts'
import type { Answer } from './answer.ts'
import type { Exchange } from './context.ts'

/** The pushed authorization request endpoint (RFC 9126). */
export const par = async (exchange: Exchange): Promise<Answer> => {
  const { context, request: { body } } = exchange
  const client = await authenticateClient(exchange)
  const { client_secret, client_assertion, client_assertion_type, ...params } = body
  checkPushed(context, params)
  const request_uri = `urn:ietf:params:oauth:request_uri:${random()}`
  context.pushed.set(request_uri, { params: { ...params, client_id: client.client_id }, expires: now() + 60 })
  return json({ request_uri, expires_in: 60 }, 201)
}
