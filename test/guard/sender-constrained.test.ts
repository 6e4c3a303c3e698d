import { createHash } from 'node:crypto'
import t from 'tap'
import { SignJWT, calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { createDpopProofs } from '../../lib/guard/dpop.ts'
import { testCertificate } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor, startApp, stopClock } from '../support/app.ts'
import { faultyStore } from '../support/modes.ts'
import type { FastifyInstance, FastifyRequest, LightMyRequestResponse } from 'fastify'
import type { JWK } from 'jose'
import type { Test } from 'tap'
import type { BearerOptions, OidcOptions } from '../../index.ts'
import type { Provider } from '../../lib/testing/index.ts'
import type { Sealer } from '../../lib/sealer.ts'

const API = 'https://api.example.com'

interface Client {
  /** An access token that is bound to its key. */
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

t.test('S74 a token that is bound to a key, and the proof of it', async (t) => {
  const { app, provider } = await start(t)
  for (const alg of ['ES256', 'PS256', 'EdDSA']) {
    const { token, proof } = await createClient(provider, { alg })
    const answer = await ask(app, `DPoP ${token}`, await proof())
    t.match([answer.statusCode, answer.json()], [200, { claims: { sub: 'alice' } }], alg)
    t.equal(
      (await ask(app, `dpop ${token}`, await proof({ htu: `${BASE_URL}/me?query#fragment` }), '/me?other=1'))
        .statusCode,
      200,
      'the query is not part of it'
    )
    t.equal((await ask(app, `DPoP ${token}`, await proof({}, { typ: 'DPoP+JWT' }))).statusCode, 200)
  }
})

t.test('S74 proofs that are wrong', async (t) => {
  const { app, provider } = await start(t)
  const { token, proof } = await createClient(provider)
  const other = await createClient(provider)
  const now = Math.floor(Date.now() / 1000)
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  const [secret, stranger] = [await exportJWK(privateKey), await exportJWK(publicKey)]
  const wrong: Array<[string, string | string[] | undefined]> = [
    ['none', undefined],
    ['two', [await proof(), await proof()]],
    ['no JWT', 'x'],
    ['too long', `${await proof()}${'x'.repeat(9000)}`],
    ['typ', await proof({}, { typ: 'jwt' })],
    ['no typ', await proof({}, { typ: undefined })],
    ['no jwk', await proof({}, { jwk: undefined })],
    ['another jwk', await proof({}, { jwk: stranger })],
    ['a private jwk', await proof({}, { jwk: secret })],
    ['a symmetric jwk', await proof({}, { jwk: { kty: 'oct', k: 'eHg' } as JWK })],
    ['htm', await proof({ htm: 'POST' })],
    ['htm in lower case', await proof({ htm: 'get' })],
    ['htu', await proof({ htu: `${BASE_URL}/other` })],
    ['htu of another host', await proof({ htu: 'https://evil.test/me' })],
    ['htu with http', await proof({ htu: 'http://app.example.com/me' })],
    ['htu that is none', await proof({ htu: 'x' })],
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
    'the key of another client'
  )
  t.match(
    (await ask(app, `Bearer ${token}`, await proof())).json(),
    { code: 'FST_OIDC_TOKEN' },
    'a bound token as a plain one'
  )
  t.match((await ask(app, `Bearer ${token}`)).json(), { code: 'FST_OIDC_TOKEN' })
  const plain = provider.accessToken({ sub: 'alice', overrides: { aud: API } })
  t.match(
    (await ask(app, `DPoP ${plain}`, await proof({ ath: hash(plain) }))).json(),
    { code: 'FST_OIDC_TOKEN' },
    'a plain token as a bound one'
  )
  const answer = await ask(app, `Bearer ${plain}`)
  t.equal(answer.statusCode, 200)
  t.same((await app.inject('/me')).headers['www-authenticate'], [
    `Bearer resource_metadata="${BASE_URL}/.well-known/oauth-protected-resource"`,
    `DPoP algs="ES256 ES384 ES512 PS256 RS256 EdDSA Ed25519", resource_metadata="${BASE_URL}/.well-known/oauth-protected-resource"`
  ])
  const forged = (await proof()).split('.')
  t.equal((await ask(app, `DPoP ${token}`, `${forged[0]}.${forged[1]}.${'A'.repeat(86)}`)).statusCode, 401)
})

async function overHttp (app: FastifyInstance, authorization: string, dpop: string[]): Promise<LightMyRequestResponse> {
  const { request } = await import('node:http')
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

t.test('S74 a proof is used once, in whichever process', async (t) => {
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
    'nobody passes unseen'
  )
})

t.test('R32 proofs are remembered, but not without end', async (t) => {
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
    { baseUrl: BASE_URL, sealer: {} as Sealer, vault: undefined, limit: 100 }
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
    'past its time it is too old itself'
  )
})

t.test('S74 proofs with a nonce of this server', async (t) => {
  const clock = stopClock(t)
  const { app, provider } = await start(t, { dpop: 'required', dpopNonce: true })
  const { token, proof } = await createClient(provider)
  const nonceOf = async (dpop: string): Promise<string> => {
    const answer = await ask(app, `DPoP ${token}`, dpop)
    t.match([answer.statusCode, answer.json()], [401, { code: 'FST_OIDC_DPOP_NONCE' }])
    t.match(
      [answer.headers['www-authenticate']].flat(),
      [/^DPoP algs="[^"]+", error="use_dpop_nonce"/],
      'no other scheme is offered'
    )
    t.match(answer.headers['dpop-nonce'], /^[\x21\x23-\x5b\x5d-\x7e]+$/)
    return answer.headers['dpop-nonce'] as string
  }
  const nonce = await nonceOf(await proof())
  t.equal((await ask(app, `DPoP ${token}`, await proof({ nonce }))).statusCode, 200)
  t.equal((await ask(app, `DPoP ${token}`, await proof({ nonce }))).statusCode, 200, 'for a while')
  clock.advance(301)
  t.not(await nonceOf(await proof({ nonce })), nonce)
  for (const wrong of ['x', 1, '', nonce.slice(1)]) await nonceOf(await proof({ nonce: wrong }))
  const plain = provider.accessToken({ sub: 'alice', overrides: { aud: API } })
  t.equal((await ask(app, `Bearer ${plain}`)).statusCode, 401, 'where it is required nothing else will do')
  t.equal((await ask(app, `Bearer ${plain}`)).statusCode, 401, 'also the second time')
  const without = await buildApp(t, optionsFor(provider, { bearer: { audience: API } }))
  const refused = await ask(without, `DPoP ${token}`, await proof())
  t.match(
    [refused.statusCode, refused.json().code],
    [401, 'FST_OIDC_TOKEN'],
    'where it is not taken, it is not taken for a plain one'
  )
})

t.test('S75 a token that is bound to a certificate', async (t) => {
  const mine = testCertificate()
  const der = Buffer.from(mine.cert.replace(/-----[^-]+-----|\s/g, ''), 'base64')
  const { app, provider } = await start(t, {
    clientCertificate: ({ headers }) =>
      headers['x-client-cert'] === 'pem'
        ? mine.cert
        : headers['x-client-cert'] === 'der'
          ? der
          : headers['x-client-cert'] === 'other'
            ? testCertificate().cert
            : undefined
  })
  const token = provider.accessToken({
    sub: 'alice',
    overrides: { aud: API, cnf: { 'x5t#S256': createHash('sha256').update(der).digest('base64url') } }
  })
  const status = async (certificate: string): Promise<number> =>
    (await app.inject({ url: '/me', headers: { authorization: `Bearer ${token}`, 'x-client-cert': certificate } }))
      .statusCode
  t.same([await status('pem'), await status('der'), await status('other'), await status('none')], [200, 200, 401, 401])

  const tls = await buildApp(t, optionsFor(provider, { bearer: { audience: API } }), {
    https: { key: mine.key, cert: mine.cert, ca: mine.cert, requestCert: true, rejectUnauthorized: false }
  } as never)
  await tls.listen({ port: 0, host: '127.0.0.1' })
  const { port } = tls.server.address() as { port: number }
  const { request } = await import('node:https')
  const overTls = async (certificate: object): Promise<number> =>
    await new Promise((resolve, reject) => {
      request(
        {
          port,
          host: '127.0.0.1',
          path: '/me',
          rejectUnauthorized: false,
          headers: { authorization: `Bearer ${token}` },
          ...certificate
        },
        (response) => {
          response.resume()
          resolve(response.statusCode as number)
        }
      )
        .on('error', reject)
        .end()
    })
  t.same([await overTls({ key: mine.key, cert: mine.cert }), await overTls({})], [200, 401], 'that of the connection')
  const plain = await buildApp(t, optionsFor(provider, { bearer: { audience: API } }))
  t.equal(
    (await plain.inject({ url: '/me', headers: { authorization: `Bearer ${token}`, 'x-client-cert': 'pem' } }))
      .statusCode,
    401,
    'without TLS there is none, whatever a header says'
  )
})
