import { json, refusal } from './answer.ts'
import { isLive, words } from './context.ts'
import { change } from './fault-effects.ts'
import { issue } from './tokens.ts'
import { userClaims } from './user-claims.ts'
import type { Answer } from './answer.ts'
import type { Exchange } from './context.ts'
import type { ProviderClient } from './options.ts'
import type { Claims } from './token-options.ts'

const challenge = (error: string, description: string, status: number) => refusal(error, description, status, {
  'www-authenticate': `Bearer error="${error}", error_description="${description}"`
})

const bearerToken = ({ request }: Exchange): string => {
  const header = /^bearer +(.+)$/i.exec(String(request.headers.authorization))?.[1]
  const field = request.body.access_token
  if (header && field) throw refusal('invalid_request', 'more than one access token')
  if (!header && !field) throw refusal('invalid_request', 'no access token', 401, { 'www-authenticate': 'Bearer' })
  return header ?? field!
}

const userinfoClaims = ({ context, ...exchange }: Exchange): { client: ProviderClient, claims: Claims } => {
  const token = context.accessTokens.get(bearerToken({ context, ...exchange }))
  if (!isLive(token)) throw challenge('invalid_token', 'unknown, expired or revoked', 401)
  const { grant: { user, client }, scope } = token
  if (!user || !words(scope).includes('openid')) throw challenge('insufficient_scope', 'openid is required', 403)
  return { client, claims: userClaims(user, scope) }
}

/** The UserInfo endpoint (OpenID Connect Core 1.0, section 5.3). */
export const userinfo = (exchange: Exchange): Answer => {
  const { context, faults } = exchange
  const { client, claims } = userinfoClaims(exchange)
  const changed = faults.reduce((value, fault) => change(value, fault.userinfo), claims)
  const alg = client.userinfo_signed_response_alg
  if (!alg) return json(changed)
  const signed = { iss: context.issuer, aud: client.client_id, ...changed }
  const signWith = faults.find((fault) => fault.signWith)?.signWith
  const body = issue(context, { client, claims: signed, alg, signWith })
  return { status: 200, headers: { 'content-type': 'application/jwt' }, body }
}
