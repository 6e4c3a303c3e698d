import t from 'tap'
import Fastify from 'fastify'
import oidc from '../index.ts'
import { client, startProvider } from '../lib/testing/index.ts'
import { BASE_URL, optionsFor } from './support/app.ts'
import type { FastifyInstance } from 'fastify'

t.setTimeout(120_000) // where other work shares the cores

// Applications that put each response into an envelope.
const envelopes: Record<string, (app: FastifyInstance) => void> = {
  'a preSerialization hook': (app) => {
    app.addHook('preSerialization', async (_request, _reply, payload) => ({ data: payload }))
  },
  'a reply serializer': (app) => { app.setReplySerializer((payload) => JSON.stringify({ data: payload })) },
  'a serializer compiler': (app) => { app.setSerializerCompiler(() => (data) => JSON.stringify({ data })) }
}

for (const [name, add] of Object.entries(envelopes)) {
  t.test(`K17 ${name} of the application does not change what programs read from the plugin`, async (t) => {
    const provider = await startProvider()
    const app = Fastify()
    t.teardown(async () => {
      await app.close()
      await provider.close()
    })
    add(app)
    await app.register(oidc, optionsFor(provider, { store: 'memory:', broker: { audience: 'api' } }))
    app.get('/me', { preHandler: app.oidc.required() }, async () => ({}))
    const browser = client({ app, baseUrl: BASE_URL })
    t.equal((await browser.goto('/me')).status, 200)
    t.match((await browser.fetch('/auth/session')).json(), { claims: { sub: 'alice' }, session: {} })
    t.match((await browser.fetch('/auth/userinfo')).json(), { sub: 'alice' })
    const keys = await app.inject('/auth/.well-known/jwks.json')
    t.match(keys.json(), { keys: [{ kty: 'EC' }] })
    t.match(keys.headers, { 'content-type': /json; charset=utf-8$/, 'cache-control': /public/ })
    t.match((await app.inject('/.well-known/oauth-authorization-server')).json(), { issuer: BASE_URL })
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    const post = async (url: string, payload: string): Promise<object> =>
      (await app.inject({ method: 'POST', url, headers: form, payload })).json()
    t.match(await post('/auth/token', 'grant_type=x'), { error: 'unsupported_grant_type', error_description: /./ })
    t.match(await post('/auth/device', ''), { device_code: /./, user_code: /./ })
    t.match(await post('/auth/backchannel-logout', 'logout_token=x'), { error: 'invalid_request' })
  })
}
