import { fastifyJwtJwks } from 'fastify-jwt-jwks'
import { handler, serve } from './serve.ts'

serve(async (app, { issuer }) => {
  await app.register(fastifyJwtJwks, { jwksUrl: `${issuer}/jwks`, issuer, audience: 'https://api.example.com' })
  app.get('/me', { preValidation: app.authenticate }, handler)
})
