import { createHash } from 'node:crypto'
import t from 'tap'
import { SignJWT, calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose'
import { client, sessionCookie, startClock, startProvider, testCertificate } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor } from '../support/app.ts'
import { openPage } from '../support/pages.ts'
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { Provider } from '../../lib/testing/index.ts'

const page = openPage('docs/bearer-tokens.md')
const AUDIENCE = 'https://api.example.com'
const FORM = 'application/x-www-form-urlencoded'

async function start (t: Test): Promise<Provider> {
  const provider = await startProvider({ users: [{ sub: 'alice', name: 'Alice', email: 'alice@example.com' }] })
  t.teardown(async () => await provider.close())
  return provider
}

/** A provider, and the application of the block that has this text. */
async function startBlock (t: Test, text: string): Promise<{ provider: Provider, app: FastifyInstance }> {
  const provider = await start(t)
  const app = await page.run(t, text, { context: { options: optionsFor(provider) } })
  return { provider, app }
}

type Bring = (token: string, headers?: Record<string, string>) => Promise<LightMyRequestResponse>

function bringTo (app: FastifyInstance, url: string, method: 'GET' | 'POST' = 'GET'): Bring {
  return async (token, headers = {}) =>
    await app.inject({ method, url, headers: { authorization: `Bearer ${token}`, ...headers } })
}

function hash (text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}

t.test('what each request to an API gets', async (t) => {
  const { provider, app } = await startBlock(t, "scopes: ['reports:read']")
  const { required } = app.oidc
  app.addContentTypeParser(FORM, { parseAs: 'string' }, (_request, body, done) => {
    done(null, Object.fromEntries(new URLSearchParams(body as string)))
  })
  app.post('/api/reports', { preHandler: required() }, async () => 'made')
  app.get('/fresh', { preHandler: required({ maxAge: 60 }) }, async () => 'fresh')
  app.get('/jobs', { preHandler: required({ accept: ['client'] }) }, async () => 'done')
  app.get('/pages', { preHandler: required({ accept: ['session'] }) }, async () => 'page')
  const token = (overrides: Record<string, unknown> = {}, more: object = {}): string => provider.accessToken({
    sub: 'alice', scope: 'reports:read', overrides: { aud: AUDIENCE, ...overrides }, ...more
  })
  const ask = async (headers: Record<string, string> = {}, url = '/api/reports', more: InjectOptions = {}) =>
    await app.inject({ url, headers, ...more })
  const bring = async (text: string, url?: string, scheme = 'Bearer') =>
    await ask({ authorization: `${scheme} ${text}` }, url)
  const bringAll = async (texts: string[]) => await Promise.all(texts.map(async (text) => await bring(text)))
  const cookie = (scope: string): { cookie: string } => ({ cookie: sessionCookie(app, { scope }) })
  const now = Math.floor(Date.now() / 1000)
  const form = { 'content-type': FORM, authorization: `Bearer ${token()}` }
  const post: InjectOptions = { method: 'POST' }
  const asked: Record<string, () => Promise<LightMyRequestResponse[]>> = {
    'a user opens the page in a browser and is not logged in': async () => [
      await ask({ 'sec-fetch-mode': 'navigate', accept: 'text/html' })
    ],
    'a script or `curl` without a token': async () => [await ask(), await ask({ accept: '*/*' })],
    'a session with the scope': async () => [await ask(cookie('openid reports:read'))],
    'a session without the scope': async () => [await ask(cookie('openid'))],
    'a `POST` with the session cookie, sent by a page of another site': async () => [
      await ask({ ...cookie('openid'), origin: 'https://evil.example.com' }, undefined, post)
    ],
    'a user\'s access token for this API, with the scope': async () => [await bring(token())],
    'the same token with the scheme `bearer` or `BEARER`': async () => [
      await bring(token(), undefined, 'bearer'), await bring(token(), undefined, 'BEARER')
    ],
    'a token for another API, from an unknown issuer, expired, or with a wrong signature': async () => await bringAll([
      token({ aud: 'https://other.example.com' }),
      token({ iss: 'https://id.example.net' }),
      token({ exp: now - 60 }),
      token({}, { signWith: 'other-key' })
    ]),
    'an ID token or a refresh token': async () => [
      await bring(provider.idToken({ sub: 'alice', overrides: { aud: AUDIENCE } })), await bring('Tm90IGEgSldU')
    ],
    'a token without the scope': async () => [await bring(token({ scope: 'openid' }))],
    'a token of a user who logged in longer ago than `maxAge` allows': async () => [
      await bring(token({ auth_time: now - 1000 }), '/fresh')
    ],
    'a token that a client got for itself, without a user': async () => [
      await bring(token({ gty: 'client-credentials' }))
    ],
    'a token that is certain to be of neither a user nor a known client': async () => [
      await bring(token({ sub: 'svc', client_id: 'svc' }))
    ],
    'a token that is bound to a key, without a proof': async () => [await bring(token({ cnf: { jkt: 'x' } }))],
    'two `Authorization` headers, a token in the header and in the form, or an unreadable header': async () => [
      await ask(form, undefined, { ...post, payload: 'access_token=x' }), await bring(''), await bring('a b')
    ],
    'a token in the query': async () => [await ask({}, `/api/reports?access_token=${token()}`)],
    'a token, while the provider is unreachable and its keys are not known yet': async () => {
      provider.fault({ on: 'jwks', status: 503 })
      const other = await buildApp(t, optionsFor(provider, { bearer: { audience: AUDIENCE } }))
      const answer = await other.inject({ url: '/me', headers: { authorization: `Bearer ${token()}` } })
      t.ok(answer.headers['retry-after'])
      return [answer]
    }
  }
  const rows = page.rowsOf('request to `/api/reports`')
  t.same([...rows.keys()], Object.keys(asked))
  for (const [request, response] of rows) {
    for (const { statusCode, headers } of await asked[request]?.() ?? []) {
      t.equal(statusCode, parseInt(response), request)
      const challenge = [headers['www-authenticate']].flat().join()
      const isChallenged = statusCode === 401 || statusCode === 400 || response.includes('error=')
      for (const [, part] of isChallenged ? response.matchAll(/`([^`]+)`/g) : []) {
        t.ok(challenge.includes(part as string), `${request}: ${part} in ${challenge}`)
      }
    }
  }
  t.equal((await bring(token({ gty: 'client-credentials' }), '/jobs')).statusCode, 200)
  t.equal((await ask({}, '/pages')).headers['www-authenticate'], undefined, 'a route for sessions sends no challenge')
  t.equal((await bring(token({ cnf: { other: 'x' } }))).statusCode, 401, 'an unknown confirmation is refused')
})

t.test('the metadata of the protected resource', async (t) => {
  const { provider, app } = await startBlock(t, "scopes: ['reports:read']")
  const { headers, ...response } = await app.inject('/.well-known/oauth-protected-resource')
  t.same(response.json(), {
    resource: BASE_URL,
    authorization_servers: [provider.issuer],
    bearer_methods_supported: ['header'],
    scopes_supported: ['reports:read']
  })
  t.match(headers, { 'cache-control': 'public, max-age=3600', 'access-control-allow-origin': '*' })
})

t.test('the token in a handler', async (t) => {
  const { provider, app } = await startBlock(t, "'/api/whoami'")
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => await app.oidc.accessToken(request))
  const token = provider.accessToken({ sub: 'alice', scope: 'openid email', overrides: { aud: AUDIENCE } })
  const answer = await bringTo(app, '/api/whoami')(token, { cookie: sessionCookie(app, { claims: { sub: 'bob' } }) })
  t.same(answer.json(), { sub: 'alice', by: 'token', client: 'web', scopes: ['openid', 'email'] }, 'the token decides')
  const browser = client({ app, baseUrl: BASE_URL })
  t.same((await browser.goto('/api/whoami')).json(), { sub: 'alice', by: 'session' })

  t.match((await bringTo(app, '/token')(token)).json(), { code: 'FST_OIDC_LOGIN_REQUIRED' })
  t.same(
    Object.keys((await bringTo(app, '/auth/userinfo')(token)).json()).sort(),
    ['email', 'first_name', 'last_name', 'pw_name', 'sub', 'username']
  )
})

t.test('a client without a user', async (t) => {
  const { provider, app } = await startBlock(t, "'/api/import'")
  const bring = bringTo(app, '/api/import', 'POST')
  const token = (sub: string, claims: Record<string, unknown> = {}): string =>
    provider.accessToken({ sub, scope: 'import', overrides: { aud: AUDIENCE, client_id: 'importer', ...claims } })
  t.same((await bring(token('importer'))).json(), { importedBy: 'importer' })
  t.equal((await bring(token('alice'))).statusCode, 403)
  t.equal((await bring(token('web', { client_id: 'web' }))).statusCode, 403, 'the client is not named')
  t.same((await bring(token('x', { gty: 'client-credentials' }))).json(), { importedBy: 'importer' })
  t.equal((await bring(token('importer', { scope: 'other' }))).statusCode, 403)
  const cookie = sessionCookie(app, { scope: 'import' })
  t.equal((await app.inject({ method: 'POST', url: '/api/import', headers: { cookie } })).statusCode, 401)
})

t.test('a provider that does not mark its access tokens', async (t) => {
  const { provider, app } = await startBlock(t, 'strictType: false')
  const bring = bringTo(app, '/api/reports')
  const token = (overrides: Record<string, unknown> = {}): string => provider.accessToken({
    sub: 'alice', header: { typ: 'JWT' }, overrides: { aud: AUDIENCE, jti: undefined, ...overrides }
  })
  t.same((await bring(token())).json(), { sub: 'alice' })
  const unmarked = token({ scope: undefined, client_id: undefined })
  t.equal((await bring(unmarked)).statusCode, 401, 'no sign of an access token')
  for (const claim of [{ nonce: 'x' }, { at_hash: 'x' }, { events: {} }, { typ: 'Refresh' }, { token_use: 'id' }]) {
    t.equal((await bring(token(claim))).statusCode, 401, JSON.stringify(claim))
  }
})

t.test('tokens that are not JWTs', async (t) => {
  const { provider, app } = await startBlock(t, 'introspection: true')
  Object.assign(provider.options, { accessTokenAudience: AUDIENCE })
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => await app.oidc.accessToken(request))
  const token = (await client({ app, baseUrl: BASE_URL }).goto('/token')).text()
  const clock = startClock()
  t.teardown(() => clock.restore())
  const bring = bringTo(app, '/api/reports')
  t.equal(token.split('.').length, 1)
  for (let index = 0; index < 2; index++) t.same((await bring(token)).json(), { sub: 'alice' })
  t.equal(provider.count('introspection'), 1)
  clock.advance(31)
  t.equal((await bring(token)).statusCode, 200)
  t.equal(provider.count('introspection'), 2)
  t.equal((await bring('unknown')).statusCode, 401)
})

t.test('tokens that are bound to a key', async (t) => {
  process.env['OIDC_STORE'] = 'memory:'
  const { provider, app } = await startBlock(t, "dpop: 'required'")
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  const jwk = await exportJWK(publicKey)
  const jkt = await calculateJwkThumbprint(jwk)
  const token = provider.accessToken({ sub: 'alice', overrides: { aud: AUDIENCE, cnf: { jkt } } })
  const proof = async (claims: Record<string, unknown>): Promise<string> => await new SignJWT({
    htm: 'GET',
    htu: `${BASE_URL}/api/reports`,
    iat: Math.floor(Date.now() / 1000),
    jti: 'one',
    ath: hash(token),
    ...claims
  }).setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk }).sign(privateKey)
  const ask = async (dpop: string): Promise<LightMyRequestResponse> =>
    await app.inject({ url: '/api/reports', headers: { authorization: `DPoP ${token}`, dpop } })

  const first = await ask(await proof({}))
  t.match([first.statusCode, first.headers['www-authenticate']], [401, /error="use_dpop_nonce"/])
  const nonce = first.headers['dpop-nonce']
  const good = await proof({ nonce })
  t.same((await ask(good)).json(), { sub: 'alice' })
  t.equal((await ask(good)).statusCode, 401, 'a proof is good once')
  t.equal((await ask(await proof({ nonce, jti: 'two', htu: 'https://other.example.com/api/reports' }))).statusCode, 401)
  t.equal((await ask(await proof({ nonce, jti: 'three', iat: Math.floor(Date.now() / 1000) - 61 }))).statusCode, 401)
  const unbound = provider.accessToken({ sub: 'alice', overrides: { aud: AUDIENCE } })
  t.equal((await bringTo(app, '/api/reports')(unbound)).statusCode, 401, 'only tokens that are bound')
  const clock = startClock()
  t.teardown(() => clock.restore())
  clock.advance(301)
  t.match((await ask(await proof({ nonce, jti: 'four' }))).headers['www-authenticate'], /error="use_dpop_nonce"/)
})

t.test('tokens that are bound to a certificate', async (t) => {
  const { provider, app } = await startBlock(t, 'clientCertificate:')
  const { cert } = testCertificate()
  const der = Buffer.from(cert.replace(/-----[^-]+-----|\s/g, ''), 'base64')
  const thumbprint = createHash('sha256').update(der).digest('base64url')
  const token = provider.accessToken({ sub: 'alice', overrides: { aud: AUDIENCE, cnf: { 'x5t#S256': thumbprint } } })
  const bring = bringTo(app, '/api/reports')
  t.same((await bring(token, { 'x-client-cert': encodeURIComponent(cert) })).json(), { sub: 'alice' })
  t.equal((await bring(token, { 'x-client-cert': encodeURIComponent(testCertificate().cert) })).statusCode, 401)
  t.equal((await bring(token)).statusCode, 401)
})

t.test('every block of code is tested above', async (t) => t.same(page.untested(), []))
