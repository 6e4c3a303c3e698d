import { json } from './answer.ts'
import { authenticateClient } from './authenticate-client.ts'
import { isLive } from './context.ts'
import type { Answer } from './answer.ts'
import type { AccessToken, Context, Exchange, Grant } from './context.ts'
import type { Claims } from './token-options.ts'

const describe = ({ issuer }: Context, { client, user }: Grant, scope: string): Claims => ({
  active: true,
  iss: issuer,
  client_id: client.client_id,
  sub: user?.sub ?? client.client_id,
  username: user?.preferred_username,
  scope
})

const describeAccess = (context: Context, { grant, scope, issued, expires }: AccessToken): Claims => ({
  ...describe(context, grant, scope),
  token_type: 'Bearer',
  aud: grant.resource ?? context.options.accessTokenAudience ?? context.issuer,
  iat: issued,
  exp: expires
})

/** The introspection endpoint (RFC 7662). */
export const introspection = async (exchange: Exchange): Promise<Answer> => {
  const { context, request: { body: { token = '' } } } = exchange
  await authenticateClient(exchange)
  const access = context.accessTokens.get(token)
  if (isLive(access)) return json(describeAccess(context, access))
  const refresh = context.refreshTokens.get(token)
  return json(refresh && !refresh.used && !refresh.grant.revoked
    ? describe(context, refresh.grant, refresh.grant.scope)
    : { active: false })
}
