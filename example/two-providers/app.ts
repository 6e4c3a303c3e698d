/**
 * Two providers: customers log in at one, employees at another.
 *
 * `/auth/login` lets the user choose. A guard with `provider` sends the user to that provider, and a session from the
 * other one does not count there. Each provider has its own redirect URI: `{baseUrl}/auth/customers/callback` and
 * `{baseUrl}/auth/employees/callback`.
 *
 * To use it, copy this file and `npm install fastify fastify-oidc`.
 */
import Fastify from 'fastify'
import oidc from 'fastify-oidc'
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import type { OidcOptions, ProviderOptions } from 'fastify-oidc'

/** The issuer and the client at one provider. */
type Client = Pick<Partial<ProviderOptions>, 'issuer' | 'clientId' | 'clientSecret'>

/** `options` are those of the quick start without the provider: `baseUrl` and `session`. */
export async function buildApp (
  options: OidcOptions,
  { customers, employees }: { customers: Client, employees: Client },
  server: FastifyServerOptions = { logger: true }
): Promise<FastifyInstance> {
  const app = Fastify(server)
  await app.register(oidc, {
    ...options,
    providers: {
      customers: { label: 'Customers', ...customers },
      employees: { label: 'Employees', ...employees }
    }
  })

  app.get('/', async (_request, reply) => await reply.type('text/html').send(HOME))

  app.get('/account', { preHandler: app.oidc.required() }, async ({ oidcClaims, oidcSession }) =>
    ({ page: 'for everyone who is logged in', provider: oidcSession?.provider, sub: oidcClaims?.sub }))

  app.get('/shop', { preHandler: app.oidc.required({ provider: 'customers' }) }, async ({ oidcClaims }) =>
    ({ page: 'for customers', sub: oidcClaims?.sub }))

  app.get('/intranet', { preHandler: app.oidc.required({ provider: 'employees' }) }, async ({ oidcClaims }) =>
    ({ page: 'for employees', sub: oidcClaims?.sub }))

  return app
}

const HOME = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Two providers</title>
<link rel="icon" href="data:,">
<style>:root { color-scheme: light dark; font: 16px/1.6 system-ui, sans-serif } body { max-width: 44rem; margin: 2rem auto; padding: 0 1rem }</style>
<h1>Two providers</h1>
<ul>
  <li><a href="/account">Account</a>: you choose where to log in</li>
  <li><a href="/shop">Shop</a>: for customers</li>
  <li><a href="/intranet">Intranet</a>: for employees</li>
</ul>
<form method="post" action="/auth/logout"><button>Log out</button></form>
</html>
`
