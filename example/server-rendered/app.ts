/**
 * An application that renders its pages on the server.
 *
 * A guarded page sends the user to log in, and the user comes back to it. The templates (eta, with @fastify/view) get
 * the user and write the links: to log in, a link to `/auth/login`; to log out, a form that posts to `/auth/logout`.
 * Helmet sets its Content-Security-Policy for these pages; the plugin sets its own for the pages that it shows.
 *
 * To use it, copy this folder and `npm install fastify @fastify/helmet @fastify/static @fastify/view eta fastify-oidc`.
 */
import { join } from 'node:path'
import helmet from '@fastify/helmet'
import fastifyStatic from '@fastify/static'
import view from '@fastify/view'
import { Eta } from 'eta'
import Fastify from 'fastify'
import oidc from 'fastify-oidc'
import type { FastifyInstance, FastifyRequest, FastifyServerOptions } from 'fastify'
import type { OidcOptions } from 'fastify-oidc'

/** The user of this application, as `onClaims` returns it. */
interface User {
  name: string
  email: string
}

/** `options` are those of the quick start: the provider, the client, `baseUrl` and `session`. */
export async function buildApp (
  options: OidcOptions,
  server: FastifyServerOptions = { logger: true }
): Promise<FastifyInstance> {
  const app = Fastify(server)
  // On https, leave the default: `upgradeInsecureRequests` is only in the way of http on localhost.
  await app.register(helmet, { contentSecurityPolicy: { directives: { upgradeInsecureRequests: null } } })
  await app.register(fastifyStatic, { root: join(import.meta.dirname, 'public') })
  await app.register(view, {
    engine: { eta: new Eta() },
    root: join(import.meta.dirname, 'views'),
    layout: 'layout.eta'
  })
  await app.register(oidc, {
    ...options,
    onClaims: async (claims, { userinfo }): Promise<User> => {
      const { name, email } = await userinfo()
      return { name: String(name ?? claims.sub), email: String(email ?? '') }
    }
  })

  app.get('/', { preHandler: app.oidc.optional() }, async (request, reply) =>
    await reply.viewAsync('home.eta', { title: 'Server-rendered application', user: userOf(request) }))

  app.get('/me', { preHandler: app.oidc.required() }, async (request, reply) =>
    await reply.viewAsync('me.eta', {
      title: 'Your claims',
      user: userOf(request),
      claims: request.oidcClaims,
      session: request.oidcSession
    }))

  app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, async (request, reply) =>
    await reply.viewAsync('admin.eta', { title: 'Administration', user: userOf(request) }))

  app.setNotFoundHandler(async (_request, reply) =>
    await reply.code(404).viewAsync('not-found.eta', { title: 'Not found', user: null }))

  return app
}

function userOf ({ oidcUser }: FastifyRequest): User | null {
  return oidcUser as User | null
}
