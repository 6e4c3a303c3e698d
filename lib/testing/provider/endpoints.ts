import { authenticateClient } from './authenticate-client.ts'
import { html, json, refusal } from './answer.ts'
import { askUser, checkPushed } from './authorize.ts'
import { findUser, now, random, words } from './context.ts'
import { change } from './fault.ts'
import { currentKey, foreignKey, keySet, publicJwk } from './keys.ts'
import { paths } from './metadata.ts'
import { issue, userClaims } from './tokens.ts'
import type { Answer } from './answer.ts'
import type { AccessToken, Context, Device, Exchange, Grant } from './context.ts'
import type { Claims, ProviderClient } from './types.ts'

/** The key set. Keys for the algorithms of the clients are in it from the start. */
export const publishedKeys = (context: Context) => {
  const algs = context.clients.flatMap(({ id_token_signed_response_alg, userinfo_signed_response_alg }) =>
    [id_token_signed_response_alg, userinfo_signed_response_alg])
  for (const alg of new Set(['RS256' as const, ...algs])) {
    if (alg && alg !== 'HS256') currentKey(context.keys, alg)
  }
  return keySet(context.keys)
}

export const jwks = ({ context, faults }: Exchange): Answer =>
  json(faults.reduce((value, fault) => change(value, fault.jwks), publishedKeys(context)))

export const attacker = ({ context }: Exchange): Answer =>
  json({ keys: [...context.keys.foreign.keys()].map((alg) => publicJwk(foreignKey(context.keys, alg))) })

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

const isLive = (token: AccessToken | undefined): token is AccessToken =>
  token !== undefined && token.expires > now() && !token.grant.revoked

const userinfoClaims = ({ context, ...exchange }: Exchange): { client: ProviderClient, claims: Claims } => {
  const token = context.accessTokens.get(bearerToken({ context, ...exchange }))
  if (!isLive(token)) throw challenge('invalid_token', 'unknown, expired or revoked', 401)
  const { grant: { user, client }, scope } = token
  if (!user || !words(scope).includes('openid')) throw challenge('insufficient_scope', 'openid is required', 403)
  return { client, claims: userClaims(user, scope) }
}

/** The UserInfo endpoint (Core 5.3). */
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

/** The revocation endpoint (RFC 7009): a refresh token takes its whole grant along. */
export const revocation = async (exchange: Exchange): Promise<Answer> => {
  const { context, request: { body: { token = '' } } } = exchange
  const client = await authenticateClient(exchange)
  const refresh = context.refreshTokens.get(token)
  if (refresh?.grant.client === client) refresh.grant.revoked = true
  if (context.accessTokens.get(token)?.grant.client === client) context.accessTokens.delete(token)
  return { status: 200, headers: {}, body: '' }
}

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

/** The device authorization endpoint (RFC 8628 section 3.1). */
export const device = async (exchange: Exchange): Promise<Answer> => {
  const { context, request: { body: { scope = '' } } } = exchange
  const client = await authenticateClient(exchange)
  const device_code = random()
  const user_code = random().slice(0, 8).toUpperCase()
  context.devices.set(device_code, { client, scope, user_code, expires: now() + 600 })
  const verification_uri = context.issuer + paths(context.options).device_verification
  return json({
    device_code,
    user_code,
    verification_uri,
    verification_uri_complete: `${verification_uri}?user_code=${user_code}`,
    expires_in: 600,
    interval: context.options.deviceInterval ?? 5
  })
}

const findDevice = ({ devices }: Context, user_code: string | undefined): Device => {
  const newestFirst = [...devices.values()].reverse()
  const device = newestFirst.find((device) => user_code === undefined || device.user_code === user_code)
  if (!device) throw refusal('invalid_request', 'unknown user_code')
  return device
}

export const approveDevice = (context: Context, user_code?: string, sub?: string): void => {
  const device = findDevice(context, user_code)
  const { client, scope } = device
  device.grant = { client, user: findUser(context, sub), scope, sid: random(), auth_time: now(), acr: '1' }
}

export const denyDevice = (context: Context, user_code?: string): void => {
  findDevice(context, user_code).denied = true
}

/** The page where a person enters the code; like the authorization endpoint it asks `approve`. */
export const deviceVerification = async ({ context, request: { query } }: Exchange): Promise<Answer> => {
  const user_code = query.user_code ?? ''
  findDevice(context, user_code)
  const decision = await askUser(context, query)
  if ('problem' in decision) denyDevice(context, user_code)
  else approveDevice(context, user_code, decision.user.sub)
  return html(`<p>${'problem' in decision ? 'Denied.' : 'Approved.'}</p>`)
}
