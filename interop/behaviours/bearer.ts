import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { SignJWT, decodeProtectedHeader, exportJWK, generateKeyPair } from 'jose'
import type { OidcOptions } from '../../index.ts'
import type { Application } from '../application.ts'
import { AUDIENCE, clients } from '../clients.ts'
import { arrived } from '../lab.ts'
import type { Lab } from '../lab.ts'
import type { Behaviour } from './behaviour.ts'

type Answer = Record<string, unknown> & { access_token: string }

export const userToken: Behaviour = async (lab) => {
  const app = await lab.start('web', bearerOptions(lab))
  const { sub, token } = await logInForToken(lab, app)
  assert.ok(isJwt(token), 'the access token is no JWT')
  const page = await call(app, '/api', `Bearer ${token}`)
  assert.equal(page.status, 200, `the token was refused: ${page.text} ${lastError(app)}`)
  assert.equal(page.json().sub, sub)
  await refusesIdToken(app)
}

export const introspection: Behaviour = async (lab) => {
  const app = await lab.start('web', bearerOptions(lab, { introspection: true }))
  const { sub, token } = await logInForToken(lab, app)
  assert.ok(!isJwt(token), 'the access token is a JWT')
  const page = await call(app, '/api', `Bearer ${token}`)
  assert.equal(page.status, 200, `the token was refused: ${page.text} ${lastError(app)}`)
  assert.equal(page.json().sub, sub)
  const other = await call(app, '/api', `Bearer ${token.slice(0, -2)}xx`)
  assert.equal(other.status, 401, 'a token that the provider does not know was accepted')
}

export const clientToken: Behaviour = async (lab) => {
  const app = await lab.start('web', bearerOptions(lab, { introspection: true }))
  const { access_token: token } = await clientCredentials(lab)
  const asUser = await call(app, '/api', `Bearer ${token}`)
  assert.ok([401, 403].includes(asUser.status), `a client passes as a user: ${asUser.status} ${asUser.text}`)
  const page = await call(app, '/import', `Bearer ${token}`)
  assert.equal(page.status, 200, `the token was refused: ${page.text} ${lastError(app)}`)
}

export const boundToken: Behaviour = async (lab) => {
  const app = await lab.start('web', bearerOptions(lab, { introspection: true, dpop: true }))
  const prove = await createProver()
  const { token_endpoint: tokenEndpoint } = lab.metadata
  const answer = await clientCredentials(lab, { DPoP: await prove('POST', tokenEndpoint) })
  assert.match(String(answer['token_type']), /^DPoP$/i, `the provider does not know DPoP: token_type ${answer['token_type']}`)
  const { access_token: token } = answer
  const proof = await prove('GET', `${app.baseUrl}/import`, token)
  const page = await call(app, '/import', `DPoP ${token}`, { dpop: proof })
  assert.equal(page.status, 200, `the token was refused: ${page.text} ${lastError(app)}`)
  const replayed = await call(app, '/import', `DPoP ${token}`, { dpop: proof })
  assert.equal(replayed.status, 401, 'a proof was accepted twice')
  const stolen = await call(app, '/import', `Bearer ${token}`)
  assert.equal(stolen.status, 401, 'a bound token was accepted without a proof')
}

function bearerOptions (
  { provider: { options } }: Lab,
  more: Partial<NonNullable<OidcOptions['bearer']>> = {}
): Partial<OidcOptions> {
  return { bearer: { audience: AUDIENCE, ...options.bearer, ...more } }
}

async function logInForToken ({ visit }: Lab, app: Application): Promise<{ sub: string, token: string }> {
  const me = await visit(app.browser(), '/me')
  arrived(me, app, '/me')
  return { sub: me.json().sub, token: app.logins.at(-1)?.access_token ?? '' }
}

async function refusesIdToken (app: Application): Promise<void> {
  const page = await call(app, '/api', `Bearer ${app.logins.at(-1)?.id_token}`)
  assert.equal(page.status, 401, 'an ID token was accepted as an access token')
}

async function clientCredentials (
  { metadata, provider }: Lab,
  headers: Record<string, string> = {}
): Promise<Answer> {
  const { clientId, clientSecret } = clients.service
  const response = await fetch(metadata.token_endpoint, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString('base64')}`, ...headers },
    body: new URLSearchParams({ grant_type: 'client_credentials', ...provider.clientCredentials })
  })
  const answer = await response.text()
  assert.equal(response.status, 200, `client_credentials: ${response.status} ${answer.slice(0, 300)}`)
  return JSON.parse(answer) as Answer
}

async function call (
  { baseUrl }: Application,
  path: string,
  authorization: string,
  headers: Record<string, string> = {}
): Promise<{ status: number, text: string, json: () => Record<string, unknown> }> {
  const response = await fetch(`${baseUrl}${path}`, { headers: { authorization, ...headers } })
  const text = await response.text()
  return { status: response.status, text, json: () => JSON.parse(text) }
}

function lastError ({ errors }: Application): string {
  return errors.at(-1)?.detail ?? ''
}

function isJwt (token: string): boolean {
  try {
    return decodeProtectedHeader(token).alg !== undefined
  } catch {
    return false
  }
}

/** Makes DPoP proofs with one new key (RFC 9449, section 4.2). */
async function createProver (): Promise<(htm: string, htu: string, token?: string) => Promise<string>> {
  const { privateKey, publicKey } = await generateKeyPair('ES256')
  const jwk = await exportJWK(publicKey)
  return async (htm, htu, token) => {
    const ath = token === undefined ? {} : { ath: createHash('sha256').update(token).digest('base64url') }
    return await new SignJWT({ htm, htu, jti: randomUUID(), ...ath })
      .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk })
      .setIssuedAt()
      .sign(privateKey)
  }
}
