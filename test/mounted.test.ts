import { createHash } from 'node:crypto'
import middie from '@fastify/middie'
import Fastify from 'fastify'
import { SignJWT, calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose'
import t from 'tap'
import oidc from '../index.ts'
import { client, startProvider } from '../lib/testing/index.ts'
import { BASE_URL, optionsFor } from './support/app.ts'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { Provider } from '../lib/testing/index.ts'

t.setTimeout(120_000) // where other work shares the cores

// The application below a path that its host removes.

const API = 'https://api.example.com'

type Listener = (request: IncomingMessage & { originalUrl?: string }, response: ServerResponse) => void

/** Mounts a listener at `/app`. Each host gives a request the path without it, and keeps the whole one or not. */
const hosts: Record<string, (listener: Listener) => Promise<FastifyInstance>> = {
  async '@fastify/middie' (listener) {
    const host = Fastify()
    await host.register(middie)
    host.use('/app', listener as never)
    return host
  },
  async Express (listener) {
    return Fastify().addHook('onRequest', (request, reply) => {
      const { raw } = request as { raw: Parameters<Listener>[0] }
      raw.originalUrl = raw.url as string
      raw.url = raw.originalUrl.replace(/^\/app\/?/, '/')
      reply.hijack()
      listener(raw, reply.raw)
    }).get('/app/*', async () => {})
  },
  async 'node:http' (listener) {
    return Fastify().addHook('onRequest', ({ raw }, reply) => {
      raw.url = (raw.url as string).replace(/^\/app\/?/, '/')
      reply.hijack()
      listener(raw, reply.raw)
    }).get('/app/*', async () => {})
  }
}

async function mount (
  t: Test,
  host: (listener: Listener) => Promise<FastifyInstance>
): Promise<{ app: FastifyInstance, provider: Provider }> {
  const provider = await startProvider()
  const inner = Fastify()
  const bearer = { audience: API, dpop: true }
  await inner.register(oidc, optionsFor(provider, { baseUrl: `${BASE_URL}/app`, bearer }))
  inner.get('/me', { preHandler: inner.oidc.required() }, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
  await inner.ready()
  const app = await host((request, response) => inner.routing(request, response))
  t.teardown(async () => {
    await app.close()
    await inner.close()
    await provider.close()
  })
  return { app, provider }
}

async function proofHeaders (provider: Provider, htu: string): Promise<Record<string, string>> {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  const jwk = await exportJWK(publicKey)
  const token = provider.accessToken({
    sub: 'alice', overrides: { aud: API, cnf: { jkt: await calculateJwkThumbprint(jwk) } }
  })
  const ath = createHash('sha256').update(token).digest('base64url')
  const proof = await new SignJWT({ htm: 'GET', htu, ath, jti: htu, iat: Math.floor(Date.now() / 1000) })
    .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk })
    .sign(privateKey)
  return { authorization: `DPoP ${token}`, dpop: proof }
}

for (const [name, host] of Object.entries(hosts)) {
  t.test(`K17 below a path that ${name} removes, a login leads back, and htu is the public address`, async (t) => {
    const { app, provider } = await mount(t, host)
    const page = await client({ app, baseUrl: BASE_URL }).goto('/app/me?x=1')
    t.match([page.status, page.url, page.json()], [200, `${BASE_URL}/app/me?x=1`, { sub: 'alice' }])
    for (const [htu, status] of [
      [`${BASE_URL}/app/me`, 200], [`${BASE_URL}/me`, 401], [`${BASE_URL}/app/app/me`, 401]
    ] as const) {
      const answer = await app.inject({ url: '/app/me', headers: await proofHeaders(provider, htu) })
      t.equal(answer.statusCode, status, htu)
    }
  })
}

t.test('K17 rewriteUrl: htu is the address that the client sees', async (t) => {
  const identity = await startProvider()
  const app = Fastify({ rewriteUrl: ({ url }) => (url as string).replace(/^\/app(?=\/)/, '') })
  t.teardown(async () => {
    await app.close()
    await identity.close()
  })
  const bearer = { audience: API, dpop: true }
  await app.register(oidc, optionsFor(identity, { baseUrl: `${BASE_URL}/app`, bearer }))
  app.get('/me', { preHandler: app.oidc.required() }, async () => 'me')
  for (const [htu, status] of [[`${BASE_URL}/app/me`, 200], [`${BASE_URL}/app/app/me`, 401]] as const) {
    const { statusCode } = await app.inject({ url: '/app/me', headers: await proofHeaders(identity, htu) })
    t.equal(statusCode, status, htu)
  }
})
