/**
 * A single-page application.
 *
 * The front end in `public/` and the API are on the same origin. The browser sends the session cookie by itself, and
 * the script never sees a token. `public/app.js` shows the four things that such a front end does:
 *
 * - It asks `/auth/session` who is logged in.
 * - It calls the API. Without a session the answer is 401, with the address of the login.
 * - It deletes all notes, for which the login must not be old (`maxAge`). If it is, the answer is 401 as well, and
 *   its `login` asks for a new one.
 * - It logs out with `fetch`, and then goes where the answer says, to log out at the provider too.
 *
 * To use it, copy this folder and `npm install fastify @fastify/static fastify-oidc`.
 */
import { join } from 'node:path'
import fastifyStatic from '@fastify/static'
import Fastify from 'fastify'
import oidc from 'fastify-oidc'
import type { FastifyInstance, FastifyRequest, FastifyServerOptions } from 'fastify'
import type { OidcOptions } from 'fastify-oidc'

/** `options` are those of the quick start: the provider, the client, `baseUrl` and `session`. */
export async function buildApp (
  options: OidcOptions,
  server: FastifyServerOptions = { logger: true }
): Promise<FastifyInstance> {
  const app = Fastify(server)
  await app.register(oidc, options)
  await app.register(fastifyStatic, { root: join(import.meta.dirname, 'public') })

  // A real application has a database.
  const notes = new Map<string, string[]>()

  app.get('/api/notes', { preHandler: app.oidc.required() }, async (request) => notes.get(userOf(request)) ?? [])

  app.post('/api/notes', { preHandler: app.oidc.required(), schema: { body: NOTE } }, async (request, reply) => {
    const { text } = request.body as { text: string }
    notes.set(userOf(request), [...notes.get(userOf(request)) ?? [], text])
    return await reply.code(201).send(notes.get(userOf(request)))
  })

  app.delete('/api/notes', { preHandler: app.oidc.required({ maxAge: 60 }) }, async (request) => {
    notes.delete(userOf(request))
    return []
  })

  return app
}

const NOTE = {
  type: 'object',
  required: ['text'],
  properties: { text: { type: 'string', minLength: 1, maxLength: 200 } }
}

// Only both together identify a user.
function userOf ({ oidcClaims }: FastifyRequest): string {
  return JSON.stringify([oidcClaims?.iss, oidcClaims?.sub])
}
