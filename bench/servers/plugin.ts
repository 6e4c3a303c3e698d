import { handler, serve } from './serve.ts'

const OWN = new URL('../../index.js', import.meta.url).href

serve(async (app, { issuer, key, store, recheckAfter = 0, plugin = OWN }) => {
  const { default: oidc } = await import(plugin) as typeof import('../../index.ts')
  await app.register(oidc, {
    issuer,
    clientId: 'bench',
    clientSecret: 'a secret of the benchmark',
    baseUrl: 'https://app.example.com',
    ...(store === undefined
      ? { session: { key } }
      : { store, session: { key, store: true, recheckAfter, maxAge: 3600 } }),
    bearer: { audience: 'https://api.example.com' },
    allowInsecureLoopback: true,
    timeout: 120 // where other work shares the cores, the provider of the bench may be slow
  })
  app.get('/', handler)
  app.get('/me', { preHandler: app.oidc.required() }, handler)
  app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
})
