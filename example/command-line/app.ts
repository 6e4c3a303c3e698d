/**
 * A command-line client that logs in by device flow (RFC 8628).
 *
 * `app.ts` is the application. With `broker` it issues tokens of its own to programs, so that they need no client at
 * the provider, and `/api/hello` accepts these tokens as well as sessions. `cli.ts` is the program: it shows a code,
 * the user opens a page at the provider and enters it, and the program calls the API. It uses openid-client only.
 *
 * To use it, copy this folder and `npm install fastify fastify-oidc`; the program needs `openid-client`.
 */
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
  await app.register(oidc, {
    ...options,
    store: 'memory:', // For one process. With several: redis://…, postgres://… or sqlite:./oidc.db
    broker: { audience: `${options.baseUrl}/api`, nativeClients: { clientIds: ['example-cli'] } }
  })

  app.get('/api/hello', { preHandler: app.oidc.required() }, async ({ oidcClaims }) => ({ hello: oidcClaims?.sub }))

  app.get('/', { preHandler: app.oidc.required() }, async (_request, reply) =>
    await reply.type('text/html').send(pageFor(options.baseUrl)))

  // Ends the tokens of all programs of the user at once. A session is needed: a program cannot do it.
  app.post('/programs/end', { preHandler: app.oidc.required({ accept: ['session'] }) }, async (request, reply) => {
    const ended = await app.oidc.broker.revoke({ sub: String(request.oidcClaims?.sub) })
    return await reply.type('text/html').send(pageFor(options.baseUrl, `Ended logins of programs: ${ended}`))
  })
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, async () => ({}))

  return app
}

const pageFor = (baseUrl: string, message = ''): string => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Command-line client</title>
<link rel="icon" href="data:,">
<style>:root { color-scheme: light dark; font: 16px/1.6 system-ui, sans-serif } body { max-width: 44rem; margin: 2rem auto; padding: 0 1rem }</style>
<h1>Command-line client</h1>
<p role="status">${message}</p>
<p>A program calls the API for you. Start it, and enter its code at the provider:</p>
<pre>node dist/example/command-line/cli.js ${baseUrl}</pre>
<form method="post" action="/programs/end"><button>End access</button></form>
<form method="post" action="/auth/logout"><button>Log out</button></form>
</html>
`
