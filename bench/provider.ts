import { createHash, generateKeyPairSync, randomBytes, randomUUID, sign } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { answer } from './answer.ts'

/** A minimal OpenID Provider, with which a relying party still does all of its work. */

const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'bench', alg: 'RS256', use: 'sig' }
const header = encode({ alg: 'RS256', kid: jwk.kid, typ: 'JWT' })
const tokenHeader = encode({ alg: 'RS256', kid: jwk.kid, typ: 'at+jwt' })

/** The claims of a user: with a UUID as `sub`, about 600 bytes of JSON. */
const user = {
  name: 'Ada Augusta King',
  given_name: 'Ada',
  family_name: 'King',
  preferred_username: 'ada.king',
  email: 'ada.king@analytical-engine.example',
  email_verified: true,
  picture: 'https://people.analytical-engine.example/pictures/0f5d2a7c.jpg',
  zoneinfo: 'Europe/London',
  locale: 'en-GB',
  groups: ['mathematicians', 'translators', 'early-programmers', 'correspondents', 'punched-cards'],
  realm_access: { roles: ['offline_access', 'uma_authorization', 'default-roles-demo', 'editor'] }
}

/** Settings of the tokens that it issues. */
let tokenSettings: { sub?: string, expiresIn: number } = { expiresIn: 3600 }
let refreshes = 0

function encode (value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

function digest (value: string): Buffer {
  return createHash('sha256').update(value).digest()
}

function metadata (issuer: string) {
  return {
    issuer,
    authorization_endpoint: `${issuer}/authorize`,
    token_endpoint: `${issuer}/token`,
    jwks_uri: `${issuer}/jwks`,
    response_types_supported: ['code'],
    subject_types_supported: ['public'],
    scopes_supported: ['openid', 'profile', 'email'],
    id_token_signing_alg_values_supported: ['RS256'],
    code_challenge_methods_supported: ['S256'],
    token_endpoint_auth_methods_supported: ['client_secret_basic'],
    authorization_response_iss_parameter_supported: true
  }
}

async function token (issuer: string, request: IncomingMessage): Promise<object> {
  const form = new URLSearchParams(await text(request))
  if (form.get('grant_type') === 'refresh_token') return await refresh()
  const { nonce, codeChallenge } = JSON.parse(Buffer.from(form.get('code') ?? '', 'base64url').toString())
  if (digest(form.get('code_verifier') ?? '').toString('base64url') !== codeChallenge) return { error: 'invalid_grant' }
  const accessToken = randomBytes(768).toString('base64url')
  return {
    access_token: accessToken,
    refresh_token: randomBytes(192).toString('base64url'),
    id_token: idToken(issuer, nonce, accessToken),
    token_type: 'Bearer',
    expires_in: tokenSettings.expiresIn,
    scope: 'openid profile email'
  }
}

/** Waits, so that the other requests arrive before the response. */
async function refresh (): Promise<object> {
  refreshes += 1
  await sleep(100)
  return {
    access_token: randomBytes(768).toString('base64url'),
    refresh_token: randomBytes(192).toString('base64url'),
    token_type: 'Bearer',
    expires_in: 3600
  }
}

function logoutToken (issuer: string, sub: string): string {
  const iat = Math.floor(Date.now() / 1000)
  return signed({
    iss: issuer,
    aud: 'bench',
    iat,
    exp: iat + 120,
    jti: randomUUID(),
    sub,
    events: { 'http://schemas.openid.net/event/backchannel-logout': {} }
  })
}

/** Access tokens of about one kilobyte, for the API of the benchmark. */
function accessTokens (issuer: string, count: number): string[] {
  const iat = Math.floor(Date.now() / 1000)
  return Array.from({ length: count }, () =>
    signed(
      {
        iss: issuer,
        aud: 'https://api.example.com',
        iat,
        exp: iat + 3600,
        jti: randomUUID(),
        client_id: 'bench',
        scope: 'openid profile email',
        sub: randomUUID(),
        ...user
      },
      tokenHeader
    )
  )
}

function idToken (issuer: string, nonce: string, accessToken: string): string {
  const iat = Math.floor(Date.now() / 1000)
  const claims = {
    iss: issuer,
    aud: 'bench',
    iat,
    exp: iat + 3600,
    auth_time: iat,
    nonce,
    at_hash: digest(accessToken).subarray(0, 16).toString('base64url'),
    sid: randomUUID(),
    sub: tokenSettings.sub ?? randomUUID(),
    ...user
  }
  return signed(claims)
}

function signed (claims: object, start = header): string {
  const content = `${start}.${encode(claims)}`
  return `${content}.${sign('sha256', Buffer.from(content), privateKey).toString('base64url')}`
}

async function serve (request: IncomingMessage, response: ServerResponse): Promise<void> {
  const issuer = `${request.headers['x-forwarded-proto'] ?? 'http'}://${request.headers.host}`
  const documents: Record<string, () => object | Promise<object>> = {
    '/.well-known/openid-configuration': () => metadata(issuer),
    '/jwks': () => ({ keys: [jwk] }),
    '/token': () => token(issuer, request)
  }
  const body = await documents[request.url as string]?.()
  response.writeHead(body === undefined ? 404 : 'error' in body ? 400 : 200, { 'Content-Type': 'application/json' })
  response.end(JSON.stringify(body))
}

const server = createServer((request, response) => serve(request, response))
// Some clients fail when a connection is closed while they send a request: here none is.
server.keepAliveTimeout = 3_600_000

answer({
  /** Returns the issuer, once the server listens. */
  listen: () => new Promise(resolve => server.listen(0, '127.0.0.1', () => {
    resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  })),
  configure (wanted: typeof tokenSettings) {
    tokenSettings = wanted
  },
  claims: () => user,
  refreshes: () => refreshes,
  publicKey: () => publicKey.export({ type: 'spki', format: 'pem' }),
  accessTokens: ({ issuer, count }: { issuer: string, count: number }) => accessTokens(issuer, count),
  logoutToken: ({ issuer, sub }: { issuer: string, sub: string }) => logoutToken(issuer, sub)
})
