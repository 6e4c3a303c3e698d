import { createLocalJWKSet, jwtVerify, type JSONWebKeySet } from 'jose'
import type { FastifyRequest } from 'fastify'
import { handler, serve } from './serve.ts'

/** Verifies each token with jose, and nothing else. */
serve(async (app, { issuer }) => {
  const keys = createLocalJWKSet(await (await fetch(`${issuer}/jwks`)).json() as JSONWebKeySet)
  const preHandler = async (request: FastifyRequest) => {
    const token = request.headers.authorization?.slice(7) as string
    await jwtVerify(token, keys, { issuer, audience: 'https://api.example.com', algorithms: ['RS256'], typ: 'at+jwt' })
  }
  app.get('/me', { preHandler }, handler)
})
