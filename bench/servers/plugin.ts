import oidc from '../../index.ts'
import { handler, serve } from './serve.ts'

serve(async (app, { issuer, key }) => {
  await app.register(oidc, {
    issuer,
    clientId: 'bench',
    clientSecret: 'a secret of the benchmark',
    baseUrl: 'https://app.example.com',
    session: { key },
    allowInsecureLoopback: true
  })
  app.get('/', handler)
  app.get('/me', { preHandler: app.oidc.required() }, handler)
})
