/**
 * One application in two processes.
 *
 * The processes listen on the same port, and each request goes to any of them. They share the sessions in a SQLite
 * file: a login in one process counts in the other, and so does a logout. `main.ts` starts the processes. With Redis
 * or PostgreSQL in place of SQLite, they may be on several computers: only the address of the `store` changes.
 *
 * To use it, copy this folder and `npm install fastify fastify-oidc`. SQLite comes with Node.js 22.13 or newer.
 */
import Fastify from 'fastify'
import oidc from 'fastify-oidc'
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import type { OidcOptions } from 'fastify-oidc'

/** `options` are those of the quick start, the same in all processes; `store` is `sqlite:./oidc.db`, for example. */
export async function buildApp (
  options: OidcOptions,
  store: string,
  server: FastifyServerOptions = { logger: true }
): Promise<FastifyInstance> {
  const app = Fastify(server)
  await app.register(oidc, { ...options, store, session: { ...options.session, store: true } })

  app.get('/', async (_request, reply) => await reply.type('text/html').send(HOME))

  app.get('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims, oidcSession }) =>
    ({ process: process.pid, sub: oidcClaims?.sub, session: oidcSession?.id }))

  // All sessions of the user, in whichever process and browser they began.
  app.get('/sessions', { preHandler: app.oidc.required() }, async ({ oidcClaims }) =>
    await app.oidc.sessions.list({ sub: String(oidcClaims?.sub) }))

  app.post('/log-out-everywhere', { preHandler: app.oidc.required() }, async ({ oidcClaims }) =>
    ({ ended: await app.oidc.sessions.revoke({ sub: String(oidcClaims?.sub) }) }))

  // The buttons of the page post forms without fields.
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, async () => ({}))

  return app
}

const HOME = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Two processes</title>
<link rel="icon" href="data:,">
<style>:root { color-scheme: light dark; font: 16px/1.6 system-ui, sans-serif } body { max-width: 44rem; margin: 2rem auto; padding: 0 1rem }</style>
<h1>Two processes</h1>
<ul>
  <li><a href="/me">Who am I</a>: load it several times, in several tabs; the process changes, the session does not</li>
  <li><a href="/sessions">Sessions</a>: all of them, in the store</li>
</ul>
<form method="post" action="/log-out-everywhere"><button>End all my sessions</button></form>
<form method="post" action="/auth/logout"><button>Log out</button></form>
</html>
`
