import { authenticateClient } from './authenticate-client.ts'
import type { Answer } from './answer.ts'
import type { Exchange } from './context.ts'

/** The revocation endpoint (RFC 7009). A refresh token revokes its whole grant. */
export const revocation = async (exchange: Exchange): Promise<Answer> => {
  const { context, request: { body: { token = '' } } } = exchange
  const client = await authenticateClient(exchange)
  const refresh = context.refreshTokens.get(token)
  if (refresh?.grant.client === client) refresh.grant.revoked = true
  if (context.accessTokens.get(token)?.grant.client === client) context.accessTokens.delete(token)
  return { status: 200, headers: {}, body: '' }
}
