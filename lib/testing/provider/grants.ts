import { createHash } from 'node:crypto'
import { authenticateClient } from './authenticate-client.ts'
import { json, refusal } from './answer.ts'
import { now, random, words } from './context.ts'
import { change } from './fault-effects.ts'
import { issueIdToken, issueJwtAccessToken } from './tokens.ts'
import type { Answer } from './answer.ts'
import type { Code, Context, Device, Exchange, Grant, RefreshToken } from './context.ts'
import type { Claims } from './token-options.ts'
import type { ProviderClient, ProviderUser } from './options.ts'

const invalidGrant = (description: string) => refusal('invalid_grant', description)

const hasUser = (grant: Grant): grant is Grant & { user: ProviderUser } => grant.user !== undefined

const newAccessToken = ({ context, faults }: Exchange, grant: Grant, scope: string): string => {
  const issued = now()
  const record = { grant, scope, issued, expires: issued + (context.options.accessTokenTtl ?? 3600) }
  const token = context.options.accessTokenFormat === 'jwt' ? issueJwtAccessToken(context, record, faults) : random()
  context.accessTokens.set(token, record)
  return token
}

const newRefreshToken = ({ refreshTokens }: Context, grant: Grant): string => {
  const token = random()
  refreshTokens.set(token, { grant })
  return token
}

const wantsRefreshToken = ({ options: { refreshTokens = 'offline_access' } }: Context, scope: string): boolean =>
  refreshTokens === 'always' || (refreshTokens === 'offline_access' && words(scope).includes('offline_access'))

interface TokenSet {
  grant: Grant
  scope?: string
  nonce?: string | undefined
  refresh_token?: string | undefined
}

const tokenResponse = (exchange: Exchange, { grant, scope = grant.scope, nonce, refresh_token }: TokenSet): Claims => {
  const { context, faults } = exchange
  const access_token = newAccessToken(exchange, grant, scope)
  return {
    access_token,
    token_type: 'Bearer',
    expires_in: context.options.accessTokenTtl ?? 3600,
    scope,
    refresh_token,
    id_token: hasUser(grant) && words(scope).includes('openid')
      ? issueIdToken(context, { grant, nonce, access_token, faults })
      : undefined
  }
}

// RFC 7636, section 4.6
const checkPkce = ({ code_challenge }: Pick<Code, 'code_challenge'>, code_verifier: string | undefined): void => {
  const computed = code_verifier && createHash('sha256').update(code_verifier).digest('base64url')
  if (computed !== code_challenge) throw invalidGrant('PKCE verification failed')
}

const checkCode = (code: Code, client: ProviderClient, body: Exchange['request']['body']): void => {
  if (code.grant.client !== client) throw invalidGrant('the code belongs to another client')
  if (code.redirect_uri !== body.redirect_uri) throw invalidGrant('redirect_uri differs from that of the authorization request')
  checkPkce(code, body.code_verifier)
}

// When a code is used twice, its tokens are revoked (RFC 6749, section 4.1.2)
const takeCode = ({ context, request }: Exchange, client: ProviderClient): Code => {
  const code = context.codes.get(request.body.code ?? '')
  if (!code || code.expires <= now()) throw invalidGrant('unknown or expired code')
  if (code.used) {
    code.grant.revoked = true
    throw invalidGrant('the code has been used')
  }
  code.used = true
  checkCode(code, client, request.body)
  return code
}

const authorizationCode = (exchange: Exchange, client: ProviderClient): Claims => {
  const { grant, nonce } = takeCode(exchange, client)
  const refresh_token = wantsRefreshToken(exchange.context, grant.scope)
    ? newRefreshToken(exchange.context, grant)
    : undefined
  return tokenResponse(exchange, { grant, nonce, refresh_token })
}

const checkRefreshToken = (record: RefreshToken | undefined, client: ProviderClient): RefreshToken => {
  if (!record || record.grant.client !== client) throw invalidGrant('unknown refresh token')
  if (record.used) record.grant.revoked = true
  if (record.grant.revoked) throw invalidGrant('the grant has been revoked')
  return record
}

const narrowed = (scope: string | undefined, granted: string): string => {
  if (words(scope).some((name) => !words(granted).includes(name))) {
    throw refusal('invalid_scope', 'the scope exceeds what was granted')
  }
  return scope ?? granted
}

const refreshToken = (exchange: Exchange, client: ProviderClient): Claims => {
  const { context, request: { body } } = exchange
  const record = checkRefreshToken(context.refreshTokens.get(body.refresh_token ?? ''), client)
  const { grant } = record
  const scope = narrowed(body.scope, grant.scope)
  const rotates = context.options.rotateRefreshTokens ?? true
  if (rotates) record.used = true
  return tokenResponse(exchange, { grant, scope, refresh_token: rotates ? newRefreshToken(context, grant) : undefined })
}

const clientCredentials = (exchange: Exchange, client: ProviderClient): Claims => {
  const { scope = '', resource } = exchange.request.body
  return tokenResponse(exchange, { grant: { client, scope, ...(resource && { resource }) } })
}

// RFC 8628, section 3.5
const checkPolling = (device: Device, interval: number): void => {
  const last = device.polled ?? -Infinity
  device.polled = Date.now()
  if (device.denied) throw refusal('access_denied', 'the user denied the request')
  if (device.grant) return
  throw Date.now() - last < interval * 1000
    ? refusal('slow_down', 'polled too soon')
    : refusal('authorization_pending', 'the user has not decided yet')
}

const deviceCode = (exchange: Exchange, client: ProviderClient): Claims => {
  const { context, request: { body: { device_code = '', code_verifier } } } = exchange
  const device = context.devices.get(device_code)
  if (!device || device.client !== client) throw invalidGrant('unknown device_code')
  if (device.expires <= now()) throw refusal('expired_token', 'the device_code has expired')
  checkPkce(device, code_verifier)
  checkPolling(device, context.options.deviceInterval ?? 5)
  context.devices.delete(device_code)
  const grant = device.grant!
  const refresh_token = wantsRefreshToken(context, grant.scope) ? newRefreshToken(context, grant) : undefined
  return tokenResponse(exchange, { grant, refresh_token })
}

const grants = new Map<string | undefined, (exchange: Exchange, client: ProviderClient) => Claims>([
  ['authorization_code', authorizationCode],
  ['refresh_token', refreshToken],
  ['client_credentials', clientCredentials],
  ['urn:ietf:params:oauth:grant-type:device_code', deviceCode]
])

export const grantTypes = [...grants.keys()]

/** The token endpoint. */
export const token = async (exchange: Exchange): Promise<Answer> => {
  const client = await authenticateClient(exchange)
  const grant = grants.get(exchange.request.body.grant_type)
  if (!grant) throw refusal('unsupported_grant_type', 'unknown grant_type')
  const response = grant(exchange, client)
  return json(exchange.faults.reduce((value, fault) => change(value, fault.tokenResponse), response))
}
