import { createHash, generateKeyPairSync, randomBytes, randomUUID, sign } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { answer } from './answer.ts'

/** The least an OpenID Provider can be and still make a relying party do all of its work. */

const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'bench', alg: 'RS256', use: 'sig' }
const header = encode({ alg: 'RS256', kid: jwk.kid, typ: 'JWT' })

/** With a UUID as `sub`, about 600 bytes of JSON. */
const person = {
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
    id_token_signing_alg_values_supported: ['RS256'],
    code_challenge_methods_supported: ['S256'],
    token_endpoint_auth_methods_supported: ['client_secret_basic'],
    authorization_response_iss_parameter_supported: true
  }
}

async function token (issuer: string, request: IncomingMessage): Promise<object> {
  const form = new URLSearchParams(await text(request))
  const { nonce, codeChallenge } = JSON.parse(Buffer.from(form.get('code') ?? '', 'base64url').toString())
  if (digest(form.get('code_verifier') ?? '').toString('base64url') !== codeChallenge) return { error: 'invalid_grant' }
  const accessToken = randomBytes(768).toString('base64url')
  return {
    access_token: accessToken,
    refresh_token: randomBytes(192).toString('base64url'),
    id_token: idToken(issuer, nonce, accessToken),
    token_type: 'Bearer',
    expires_in: 3600,
    scope: 'openid profile email'
  }
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
    sub: randomUUID(),
    ...person
  }
  const signed = `${header}.${encode(claims)}`
  return `${signed}.${sign('sha256', Buffer.from(signed), privateKey).toString('base64url')}`
}

async function serve (request: IncomingMessage, response: ServerResponse): Promise<void> {
  const issuer = `http://${request.headers.host}`
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

answer({
  /** The issuer, once it is there. */
  listen: () => new Promise(resolve => server.listen(0, '127.0.0.1', () => {
    resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  }))
})
