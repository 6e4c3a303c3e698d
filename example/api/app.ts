/**
 * An API with a Swagger page.
 *
 * The guards write into the OpenAPI document who may call a route, with which scopes, and the answers 401 and 403. The
 * page at `/docs` calls the API with the session cookie: log in, and "Try it out". A program sends an access token of
 * the provider instead, for the audience `{baseUrl}/api`, and needs no session.
 *
 * To use it, copy this file and `npm install fastify @fastify/swagger @fastify/swagger-ui fastify-oidc`.
 */
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import Fastify from 'fastify'
import oidc from 'fastify-oidc'
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import type { OidcOptions } from 'fastify-oidc'

/** `options` are those of the quick start: the provider, the client, `baseUrl` and `session`. */
export async function buildApp (
  options: OidcOptions,
  server: FastifyServerOptions = { logger: true }
): Promise<FastifyInstance> {
  const app = Fastify(server)
  // Before the routes: the plugin sees only those that come after it.
  await app.register(swagger, {
    openapi: {
      info: {
        title: 'Books',
        version: '1.0.0',
        description: `[Log in](${options.baseUrl}/auth/login?return_to=/docs), then "Try it out".`
      }
    }
  })
  await app.register(swaggerUi, { routePrefix: '/docs' })
  await app.register(oidc, { ...options, bearer: { audience: `${options.baseUrl}/api` } })

  app.get('/', { schema: { hide: true } }, async (_request, reply) => await reply.redirect('/docs'))

  const books = ['Emma']

  app.get('/api/books', { schema: { summary: 'All books', response: LIST } }, async () => books)

  app.get('/api/me', {
    preHandler: app.oidc.required(),
    schema: { summary: 'Who is calling' }
  }, async ({ oidcClaims, oidcToken }) => ({ sub: oidcClaims?.sub, by: oidcToken === null ? 'session' : 'token' }))

  app.post('/api/books', {
    preHandler: app.oidc.required({ scopes: 'openid' }),
    schema: { summary: 'Add a book', body: BOOK, response: LIST }
  }, async (request) => {
    books.push((request.body as { title: string }).title)
    return books
  })

  app.delete('/api/books', {
    preHandler: app.oidc.required({ roles: 'admin' }),
    schema: { summary: 'Remove all books, as an administrator', response: LIST }
  }, async () => {
    books.length = 0
    return books
  })

  return app
}

const BOOK = {
  type: 'object',
  required: ['title'],
  properties: { title: { type: 'string', minLength: 1, maxLength: 200 } }
}
const LIST = { 200: { description: 'The books', type: 'array', items: { type: 'string' } } }
