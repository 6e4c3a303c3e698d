import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { ClientAuthMethod, ProviderClient, ProviderRequest } from '../../lib/testing/index.ts'
import type { Party } from './party.ts'

// What the suite checks in every module.

const SECRETS = ['access_token', 'refresh_token', 'client_secret', 'client_assertion', 'code', 'code_verifier']

/** Checks all requests that the provider received. */
export function checkDuties (party: Party): void {
  const { requests } = party.provider
  const of = (endpoint: string): ProviderRequest[] => requests.filter((request) => request.endpoint === endpoint)
  requests.forEach(checkRequest)
  of('authorize').forEach((request) => checkAuthorization(request, party))
  checkFresh(of('authorize'))
  of('token').forEach(({ headers, body }) => checkClient(headers.authorization, body, party.client))
  const exchanges = of('token').filter(({ body }) => body['grant_type'] === 'authorization_code')
  exchanges.forEach((request) => checkExchange(request, of('authorize')))
  assert.equal(
    new Set(exchanges.map(({ body }) => body['code'])).size,
    exchanges.length,
    'duty: a code is redeemed once'
  )
  of('userinfo').forEach((request) => checkUserinfo(request, party))
}

function checkRequest ({ endpoint, path, query }: ProviderRequest): void {
  assert.notEqual(endpoint, 'unknown', `duty: only endpoints of the metadata are called, not ${path}`)
  assert.notEqual(endpoint, 'attacker', 'duty: no request goes where a token or a redirect points to')
  for (const name of SECRETS) assert.ok(!(name in query), `duty: no ${name} in a query, as at ${path}`)
}

function checkAuthorization ({ query }: ProviderRequest, { client, responseMode }: Party): void {
  assert.ok(query['scope']?.split(' ').includes('openid'), 'duty: openid is in the scope')
  assert.equal(query['response_type'], 'code', 'duty: response_type')
  assert.equal(query['response_mode'], responseMode === 'query' ? undefined : responseMode, 'duty: response_mode')
  assert.equal(query['client_id'], client.client_id, 'duty: client_id')
  assert.ok(client.redirect_uris?.includes(query['redirect_uri'] ?? ''), 'duty: redirect_uri is registered')
  assert.equal(query['code_challenge_method'], 'S256', 'duty: code_challenge_method')
  assert.match(query['code_challenge'] ?? '', /^[\w-]{43}$/, 'duty: code_challenge is a SHA-256')
  assert.ok(!('request' in query) && !('request_uri' in query), 'duty: no request object')
}

// RFC 9700, section 2.1
function checkFresh (requests: ProviderRequest[]): void {
  for (const name of ['state', 'nonce', 'code_challenge']) {
    const values = requests.map(({ query }) => query[name] ?? '')
    assert.ok(values.every((value) => value.length >= 22), `duty: ${name} has 128 bits or more`)
    // Only their ends differ: a state begins with the time
    assert.equal(
      new Set(values.map((value) => value.slice(-16))).size,
      values.length,
      `duty: ${name} is different in each login`
    )
  }
}

// RFC 6749, section 4.1.3, and RFC 7636, sections 4.1 and 4.6
function checkExchange ({ body }: ProviderRequest, logins: ProviderRequest[]): void {
  const verifier = body['code_verifier'] ?? ''
  assert.match(verifier, /^[\w.~-]{43,128}$/, 'duty: code_verifier is well-formed')
  const challenge = createHash('sha256').update(verifier).digest('base64url')
  const login = logins.find(({ query }) => query['code_challenge'] === challenge)
  assert.ok(login !== undefined, 'duty: code_verifier belongs to a login')
  assert.equal(body['redirect_uri'], login.query['redirect_uri'], 'duty: redirect_uri is the same at both endpoints')
}

type Body = Record<string, string>

/** Checks that the credentials of the method are there, and those of other methods are not. */
const credentials: Record<
  ClientAuthMethod,
  (authorization: string | undefined, body: Body, client: ProviderClient) => boolean
> = {
  client_secret_basic: (authorization, body, client) =>
    body['client_secret'] === undefined &&
    body['client_assertion'] === undefined &&
    JSON.stringify(readBasic(authorization)) === JSON.stringify([client.client_id, client.client_secret]),
  client_secret_post: (authorization, body, client) =>
    authorization === undefined &&
    body['client_assertion'] === undefined &&
    body['client_id'] === client.client_id &&
    body['client_secret'] === client.client_secret,
  client_secret_jwt: isAssertion,
  private_key_jwt: isAssertion,
  tls_client_auth: isIdOnly,
  none: isIdOnly
}

function checkClient (authorization: string | string[] | undefined, body: Body, client: ProviderClient): void {
  const method = client.token_endpoint_auth_method as ClientAuthMethod
  assert.ok(
    credentials[method](authorization as string | undefined, body, client),
    `duty: the client authenticates with ${method} and nothing else`
  )
}

// RFC 6749, section 2.3.1: each part is form-encoded before they are joined
function readBasic (authorization = ''): string[] {
  const text = Buffer.from(/^Basic (\S+)$/.exec(authorization)?.[1] ?? '', 'base64').toString()
  return text.split(':').map((part) => decodeURIComponent(part.replaceAll('+', ' ')))
}

function isAssertion (authorization: string | undefined, body: Body): boolean {
  return authorization === undefined && body['client_secret'] === undefined && body['client_assertion'] !== undefined
}

function isIdOnly (authorization: string | undefined, body: Body, { client_id }: ProviderClient): boolean {
  return (
    authorization === undefined &&
    body['client_secret'] === undefined &&
    body['client_assertion'] === undefined &&
    body['client_id'] === client_id
  )
}

// RFC 6750, section 2
function checkUserinfo ({ headers, body }: ProviderRequest, { issued }: Party): void {
  const header = /^Bearer (\S+)$/i.exec(String(headers.authorization ?? ''))?.[1]
  assert.ok(
    (header === undefined) !== (body['access_token'] === undefined),
    'duty: the access token is in exactly one place'
  )
  const token = header ?? body['access_token']
  assert.ok(issued.some(({ access_token }) => access_token === token), 'duty: the access token was issued here')
}
