import oidc from '../../index.ts'
import { handler, serve } from './serve.ts'

serve(async (app, { issuer, key, store, recheckAfter = 0 }) => {
  await app.register(oidc, {
    issuer,
    clientId: 'bench',
    clientSecret: 'a secret of the benchmark',
    baseUrl: 'https://app.example.com',
    ...(store === undefined
      ? { session: { key } }
      : { store, session: { key, store: true, recheckAfter, maxAge: 3600 } }),
    bearer: { audience: 'https://api.example.com' },
    allowInsecureLoopback: true
  })
  app.get('/', handler)
  app.get('/me', { preHandler: app.oidc.required() }, handler)
  app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
})
