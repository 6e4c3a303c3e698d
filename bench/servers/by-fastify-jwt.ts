import jwt from '@fastify/jwt'
import { handler, serve } from './serve.ts'

serve(async (app, { issuer, publicKey }) => {
  await app.register(jwt, {
    secret: { public: publicKey as string },
    verify: { algorithms: ['RS256'], allowedIss: issuer, allowedAud: 'https://api.example.com', cache: true }
  })
  app.get('/me', { preHandler: async (request) => await request.jwtVerify() }, handler)
})
