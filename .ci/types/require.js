// An application in CommonJS, on the packed package: it loads all entries, and logs a user in.
const assert = require('node:assert/strict')
const Fastify = require('fastify')
const oidc = require('fastify-oidc')
const { OidcError } = require('fastify-oidc')
const { createMemoryStore } = require('fastify-oidc/store/memory')
const { client, startProvider } = require('fastify-oidc/testing')

assert.equal(typeof oidc, 'function', 'the plugin')
assert.equal(oidc.default, oidc)
for (const name of ['sqlite', 'postgres', 'redis']) require(`fastify-oidc/store/${name}`)

async function main () {
  const provider = await startProvider()
  const app = Fastify()
  await app.register(oidc, {
    issuer: provider.issuer,
    clientId: 'web',
    clientSecret: provider.clients[0].client_secret,
    baseUrl: 'https://app.example.com',
    allowInsecureLoopback: true,
    timeout: 60,
    store: createMemoryStore(),
    session: { secret: 'x'.repeat(32) }
  })
  app.get('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims }) => oidcClaims.sub)
  const page = await client({ app, baseUrl: 'https://app.example.com' }).goto('/me')
  assert.deepEqual([page.status, page.text()], [200, 'alice'])
  await assert.rejects(async () => await Fastify().register(oidc, {}), OidcError)
  await app.close()
  await provider.close()
}

main()
