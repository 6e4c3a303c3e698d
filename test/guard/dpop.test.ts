import { createHash } from 'node:crypto'
import { request } from 'node:http'
import { connect } from 'node:http2'
import { SignJWT, calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose'
import Fastify from 'fastify'
import t from 'tap'
import oidc from '../../index.ts'
import { createDpopProofs } from '../../lib/guard/dpop.ts'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { createSeen } from '../../lib/store/seen.ts'
import { startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor, startApp, stopClock } from '../support/app.ts'
import { API, METADATA, identity } from '../support/bearer.ts'
import { faultyStore } from '../support/modes.ts'
import type { AddressInfo } from 'node:net'
import type { JWK } from 'jose'
import type { FastifyInstance, FastifyRequest, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { BearerOptions, OidcOptions } from '../../index.ts'
import type { Sealer } from '../../lib/sealer.ts'
import type { Provider } from '../../lib/testing/index.ts'

interface Client {
  /** An access token that is bound to the key of the client. */
  token: string
  proof: (claims?: Record<string, unknown>, header?: Record<string, unknown>) => Promise<string>
}

async function createClient (
  provider: Provider,
  { alg = 'ES256', overrides = {} }: { alg?: string; overrides?: Record<string, unknown> } = {}
): Promise<Client> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  const jwk = await exportJWK(publicKey)
  const token = provider.accessToken({
    sub: 'alice',
    overrides: { aud: API, cnf: { jkt: await calculateJwkThumbprint(jwk) }, ...overrides }
  })
  return {
    token,
    async proof (claims = {}, header = {}) {
      const all = {
        htm: 'GET',
        htu: `${BASE_URL}/me`,
        iat: Math.floor(Date.now() / 1000),
        jti: Math.random().toString(36),
        ath: hash(token),
        ...claims
      }
      return await new SignJWT(JSON.parse(JSON.stringify(all)))
        .setProtectedHeader({ alg, typ: 'dpop+jwt', jwk, ...header })
        .sign(privateKey)
    }
  }
}

function hash (text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}

async function start (
  t: Test,
  bearer: Partial<BearerOptions> = {},
  options: Partial<OidcOptions> = {}
): Promise<{ app: FastifyInstance; provider: Provider }> {
  return await startApp(t, { bearer: { audience: API, dpop: true, ...bearer }, ...options })
}

async function ask (
  app: FastifyInstance,
  authorization: string,
  dpop?: string | string[],
  url = '/me'
): Promise<LightMyRequestResponse> {
  return await app.inject({ url, headers: { authorization, ...(dpop !== undefined && { dpop: dpop as string }) } })
}

t.test('S74 a key-bound token is valid with a proof of its key', async (t) => {
  const { app, provider } = await start(t)
  for (const alg of ['ES256', 'PS256', 'EdDSA']) {
    const { token, proof } = await createClient(provider, { alg })
    const answer = await ask(app, `DPoP ${token}`, await proof())
    t.match([answer.statusCode, answer.json()], [200, { claims: { sub: 'alice' } }], alg)
    t.equal(
      (await ask(app, `dpop ${token}`, await proof({ htu: `${BASE_URL}/me?query#fragment` }), '/me?other=1'))
        .statusCode,
      200,
      'htu does not include the query'
    )
    t.equal((await ask(app, `DPoP ${token}`, await proof({}, { typ: 'DPoP+JWT' }))).statusCode, 200)
  }
})

t.test('S74 invalid proofs are refused', async (t) => {
  const { app, provider } = await start(t)
  const { token, proof } = await createClient(provider)
  const other = await createClient(provider)
  const now = Math.floor(Date.now() / 1000)
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  const [secret, stranger] = [await exportJWK(privateKey), await exportJWK(publicKey)]
  const wrong: Array<[string, string | string[] | undefined]> = [
    ['no proof', undefined],
    ['two proofs', [await proof(), await proof()]],
    ['no JWT', 'x'],
    ['too long', `${await proof()}${'x'.repeat(9000)}`],
    ['another typ', await proof({}, { typ: 'jwt' })],
    ['no typ', await proof({}, { typ: undefined })],
    ['no jwk', await proof({}, { jwk: undefined })],
    ['another jwk', await proof({}, { jwk: stranger })],
    ['a private jwk', await proof({}, { jwk: secret })],
    ['a symmetric jwk', await proof({}, { jwk: { kty: 'oct', k: 'eHg' } as JWK })],
    ['another htm', await proof({ htm: 'POST' })],
    ['htm in lower case', await proof({ htm: 'get' })],
    ['another htu', await proof({ htu: `${BASE_URL}/other` })],
    ['htu of another host', await proof({ htu: 'https://evil.test/me' })],
    ['htu with http', await proof({ htu: 'http://app.example.com/me' })],
    ['htu that is no URL', await proof({ htu: 'x' })],
    ['htu a number', await proof({ htu: 1 })],
    ['iat too old', await proof({ iat: now - 61 })],
    ['iat in the future', await proof({ iat: now + 20 })],
    ['iat a string', await proof({ iat: String(now) })],
    ['no iat', await proof({ iat: undefined })],
    ['no jti', await proof({ jti: undefined })],
    ['jti a number', await proof({ jti: 1 })],
    ['jti too long', await proof({ jti: 'x'.repeat(201) })],
    ['ath of another token', await proof({ ath: hash('other') })],
    ['no ath', await proof({ ath: undefined })]
  ]
  for (const [name, dpop] of wrong) {
    const answer = Array.isArray(dpop)
      ? await overHttp(app, `DPoP ${token}`, dpop)
      : await ask(app, `DPoP ${token}`, dpop)
    t.match([answer.statusCode, answer.json()], [401, { code: 'FST_OIDC_DPOP' }], name)
    t.match([answer.headers['www-authenticate']].flat(), [/^DPoP algs="ES256 [^"]+", error="invalid_dpop_proof"/], name)
  }
  t.match(
    (await ask(app, `DPoP ${token}`, await other.proof({ ath: hash(token) }))).json(),
    { code: 'FST_OIDC_TOKEN' },
    'the proof is signed with the key of another client'
  )
  t.match(
    (await ask(app, `Bearer ${token}`, await proof())).json(),
    { code: 'FST_OIDC_TOKEN' },
    'a key-bound token is not a bearer token'
  )
  t.match((await ask(app, `Bearer ${token}`)).json(), { code: 'FST_OIDC_TOKEN' })
  const plain = provider.accessToken({ sub: 'alice', overrides: { aud: API } })
  t.match(
    (await ask(app, `DPoP ${plain}`, await proof({ ath: hash(plain) }))).json(),
    { code: 'FST_OIDC_TOKEN' },
    'a bearer token is not a key-bound token'
  )
  const answer = await ask(app, `Bearer ${plain}`)
  t.equal(answer.statusCode, 200)
  t.same((await app.inject('/me')).headers['www-authenticate'], [
    `Bearer resource_metadata="${METADATA}"`,
    `DPoP algs="ES256 ES384 ES512 PS256 RS256 EdDSA Ed25519", resource_metadata="${METADATA}"`
  ])
  const forged = (await proof()).split('.')
  t.equal((await ask(app, `DPoP ${token}`, `${forged[0]}.${forged[1]}.${'A'.repeat(86)}`)).statusCode, 401)
})

async function overHttp (app: FastifyInstance, authorization: string, dpop: string[]): Promise<LightMyRequestResponse> {
  if (app.server.address() === null) await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as { port: number }
  return await new Promise((resolve, reject) => {
    request(
      {
        port,
        host: '127.0.0.1',
        path: '/me',
        headers: ['Host', 'x', 'Authorization', authorization, ...dpop.flatMap((proof) => ['DPoP', proof])] as never
      },
      async (response) => {
        const chunks: Buffer[] = []
        for await (const chunk of response) chunks.push(chunk as Buffer)
        resolve({
          statusCode: response.statusCode,
          headers: response.headers,
          json: () => JSON.parse(Buffer.concat(chunks).toString())
        } as unknown as LightMyRequestResponse)
      }
    )
      .on('error', reject)
      .end()
  })
}

t.test('S74 a proof is accepted once in all processes', async (t) => {
  const store = createMemoryStore()
  const { app, provider } = await start(t, {}, { store })
  const other = await buildApp(t, optionsFor(provider, { bearer: { audience: API, dpop: true }, store }))
  const { token, proof } = await createClient(provider)
  const shown = await proof()
  const statuses = await Promise.all(
    Array.from(
      { length: 20 },
      async (_, index) => (await ask(index % 2 === 0 ? app : other, `DPoP ${token}`, shown)).statusCode
    )
  )
  t.equal(statuses.filter((status) => status === 200).length, 1)
  t.equal((await ask(app, `DPoP ${token}`, await proof())).statusCode, 200)
  const failing = faultyStore()
  const third = await buildApp(t, optionsFor(provider, { bearer: { audience: API, dpop: true }, store: failing.store }))
  failing.fault.verbs = new Set(['all'])
  t.match(
    (await ask(third, `DPoP ${token}`, await proof())).json(),
    { code: 'FST_OIDC_STORE_UNAVAILABLE' },
    'no proof is accepted without the store'
  )
})

t.test('R10 S74 a used proof stays used when the clock jumps forward and back', async (t) => {
  const clock = stopClock(t)
  const { app, provider } = await start(t)
  const { token, proof } = await createClient(provider, { overrides: { exp: 9e9 } })
  const used = await proof()
  t.equal((await ask(app, `DPoP ${token}`, used)).statusCode, 200)
  clock.advance(86_400)
  t.equal((await ask(app, `DPoP ${token}`, await proof())).statusCode, 200)
  clock.advance(-86_400)
  t.equal((await ask(app, `DPoP ${token}`, used)).statusCode, 401)
  t.equal((await ask(app, `DPoP ${token}`, await proof())).statusCode, 200)
})

t.test('S74 one proof counts for all guards of a request', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API, dpop: true } })
  app.get('/two', { preHandler: [app.oidc.optional(), app.oidc.required({ scopes: 'openid' })] }, identity)
  const { token, proof } = await createClient(provider)
  const call = async (dpop: string): Promise<number> =>
    (await app.inject({ url: '/two', headers: { authorization: `DPoP ${token}`, dpop } })).statusCode
  const dpop = await proof({ htu: `${BASE_URL}/two` })
  t.equal(await call(dpop), 200)
  t.equal(await call(dpop), 401, 'the second request is refused')
})

t.test('S74 one proof counts for a hook and a route, and for guards that run at the same time', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API, dpop: true } })
  await app.register(async (scope) => {
    scope.addHook('preHandler', app.oidc.required())
    scope.get('/hooked', { preHandler: app.oidc.required({ scopes: 'openid' }) }, identity)
    scope.get('/ruled', { config: { oidc: { scopes: 'openid' } } }, identity)
  })
  app.get('/resolvers', async (request) => {
    const found = await Promise.all([1, 2, 3].map(async () => await app.oidc.authenticate(request)))
    return found.at(-1)
  })
  const { token, proof } = await createClient(provider)
  const call = async (url: string, dpop: string): Promise<unknown> => {
    const { statusCode, body } = await app.inject({ url, headers: { authorization: `DPoP ${token}`, dpop } })
    const { claims, ...rest } = JSON.parse(body) as { claims?: object }
    return [statusCode, { ...claims, ...rest }]
  }
  for (const url of ['/hooked', '/ruled', '/resolvers']) {
    const dpop = await proof({ htu: BASE_URL + url })
    t.match(await call(url, dpop), [200, { sub: 'alice' }], url)
    t.match(await call(url, dpop), [401, { code: 'FST_OIDC_DPOP' }], `${url}, in another request`)
  }
  const dpop = await proof({ htu: `${BASE_URL}/resolvers` })
  const both = await Promise.all([call('/resolvers', dpop), call('/resolvers', dpop)])
  t.same(both.map((answer) => (answer as [number])[0]).sort(), [200, 401], 'also when both come at once')
})

t.test('S74 a proof for another server is refused over HTTP/2', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify({ http2: true })
  t.teardown(async () => await app.close())
  await app.register(oidc as never, optionsFor(provider, { bearer: { audience: API, dpop: true } }))
  app.get('*', { preHandler: app.oidc.required() as never }, identity as never)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { token, proof } = await createClient(provider)
  const session = connect(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
  t.teardown(() => session.close())
  const call = async (path: string, scheme: string, dpop: string): Promise<unknown> =>
    await new Promise((resolve, reject) => {
      const stream = session.request({ ':path': path, ':scheme': scheme, authorization: `DPoP ${token}`, dpop })
      stream
        .on('response', (headers) => resolve(headers[':status']))
        .on('error', reject)
        .resume()
    })
  t.equal(await call('/me', 'http', await proof({ htu: `${BASE_URL}/me` })), 200)
  t.equal(await call('@evil.test/me', 'foo', await proof({ htu: 'https://evil.test/me' })), 401)
  t.equal(await call('.evil.test/me', 'foo', await proof({ htu: `${BASE_URL}.evil.test/me` })), 401)
})

t.test('R32 the memory of used proofs is bounded', async (t) => {
  const clock = stopClock(t)
  const { privateKey, publicKey } = await generateKeyPair('ES256')
  const jwk = await exportJWK(publicKey)
  const sign = async (jti: string): Promise<FastifyRequest> => {
    const dpop = await new SignJWT({ htm: 'GET', htu: `${BASE_URL}/me`, jti, ath: hash('token') })
      .setIssuedAt()
      .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk })
      .sign(privateKey)
    return { method: 'GET', originalUrl: '/me', raw: { rawHeaders: ['DPoP', dpop] } } as unknown as FastifyRequest
  }
  const proofs = createDpopProofs(
    { dpopNonce: false },
    { urls: { publicUrl: (path) => BASE_URL + path }, sealer: {} as Sealer, used: createSeen(undefined, 100) }
  )
  const first = await sign('0')
  await proofs.verify(first, 'token')
  await t.rejects(proofs.verify(first, 'token'), { code: 'FST_OIDC_DPOP' })
  for (let jti = 1; jti < 100; jti++) await proofs.verify(await sign(String(jti)), 'token')
  await t.rejects(proofs.verify(first, 'token'), { code: 'FST_OIDC_DPOP' })
  await proofs.verify(await sign('100'), 'token')
  await proofs.verify(first, 'token')
  clock.advance(60)
  await t.rejects(
    proofs.verify(await (async () => first)(), 'token'),
    { code: 'FST_OIDC_DPOP' },
    'after a minute the proof itself is too old'
  )
})

t.test('S74 proofs need a nonce of the server where dpopNonce is set', async (t) => {
  const clock = stopClock(t)
  const { app, provider } = await start(t, { dpop: 'required', dpopNonce: true })
  const { token, proof } = await createClient(provider)
  const nonceOf = async (dpop: string): Promise<string> => {
    const answer = await ask(app, `DPoP ${token}`, dpop)
    t.match([answer.statusCode, answer.json()], [401, { code: 'FST_OIDC_DPOP_NONCE' }])
    t.match(
      [answer.headers['www-authenticate']].flat(),
      [/^DPoP algs="[^"]+", error="use_dpop_nonce"/],
      'the challenge offers no other scheme'
    )
    t.match(answer.headers['dpop-nonce'], /^[\x21\x23-\x5b\x5d-\x7e]+$/)
    return answer.headers['dpop-nonce'] as string
  }
  const nonce = await nonceOf(await proof())
  t.equal((await ask(app, `DPoP ${token}`, await proof({ nonce }))).statusCode, 200)
  t.equal(
    (await ask(app, `DPoP ${token}`, await proof({ nonce }))).statusCode,
    200,
    'a nonce can be used again for a while'
  )
  clock.advance(-60)
  t.equal((await ask(app, `DPoP ${token}`, await proof({ nonce }))).statusCode, 200, 'R10 the clocks of processes differ')
  clock.advance(-1)
  await nonceOf(await proof({ nonce }))
  clock.advance(61 + 301)
  t.not(await nonceOf(await proof({ nonce })), nonce)
  for (const wrong of ['x', 1, '', nonce.slice(1)]) await nonceOf(await proof({ nonce: wrong }))
  const plain = provider.accessToken({ sub: 'alice', overrides: { aud: API } })
  t.equal((await ask(app, `Bearer ${plain}`)).statusCode, 401, 'where DPoP is required a bearer token is refused')
  t.equal((await ask(app, `Bearer ${plain}`)).statusCode, 401, 'the cache does not accept it either')
  const without = await buildApp(t, optionsFor(provider, { bearer: { audience: API } }))
  const refused = await ask(without, `DPoP ${token}`, await proof())
  t.match(
    [refused.statusCode, refused.json().code],
    [401, 'FST_OIDC_TOKEN'],
    'where DPoP is off, a key-bound token is not a bearer token'
  )
})
