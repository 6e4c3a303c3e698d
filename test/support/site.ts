import Fastify from 'fastify'
import oidc from '../../index.ts'
import { startProvider } from '../../lib/testing/index.ts'
import { optionsFor } from './app.ts'
import { freePort } from './free-port.ts'
import { captureLog } from './protocol.ts'
import type { FastifyInstance } from 'fastify'
import type { OidcOptions } from '../../index.ts'
import type { Provider, TestCertificate } from '../../lib/testing/index.ts'
import type { Teardown } from './app.ts'

/** An application with pages for people, which listens, and its log. */
export interface Site {
  baseUrl: string
  app: FastifyInstance
  lines: () => string
}

export interface SiteOptions extends Partial<OidcOptions> {
  /** Serves https. */
  tls?: TestCertificate | undefined
  /** The port on which it listens, behind a proxy. Default: that of `baseUrl`. */
  port?: number
  /** Runs before the plugin is registered. */
  before?: (app: FastifyInstance) => unknown
  /** Adds routes. */
  after?: (app: FastifyInstance) => unknown
}

export async function startIdentity (t: Teardown): Promise<Provider> {
  const provider = await startProvider({ refreshTokens: 'always' })
  t.teardown(async () => await provider.close())
  return provider
}

/** Starts an application on localhost. Without `baseUrl`, it has a port of its own. */
export async function startSite (
  t: Teardown,
  provider: Provider,
  { tls, port, before, after, ...options }: SiteOptions = {}
): Promise<Site> {
  const baseUrl = options.baseUrl ?? `${tls === undefined ? 'http' : 'https'}://localhost:${await freePort()}`
  const { lines, server } = captureLog()
  const app = Fastify({ ...server, forceCloseConnections: true, ...(tls !== undefined && { https: tls }) } as object)
  t.teardown(async () => await app.close())
  await before?.(app)
  await app.register(oidc, optionsFor(provider, { timeout: 60, ...options, baseUrl }))
  addPages(app, baseUrl)
  after?.(app)
  await app.listen({ port: port ?? Number(new URL(baseUrl).port), host: 'localhost' })
  return { baseUrl, app, lines }
}

/** Its links are relative, so that it also works below a path. */
function addPages (app: FastifyInstance, baseUrl: string): void {
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) => {
    done(null, Object.fromEntries(new URLSearchParams(String(body))))
  })
  app.get('/', { preHandler: app.oidc.optional() }, async ({ oidcClaims }, reply) => await reply.type('text/html').send(`
    <!doctype html><title>home</title><h1>${oidcClaims?.sub ?? 'nobody'}</h1>
    <a id="login" href="auth/login?return_to=${encodeURIComponent(`${baseUrl}/me`)}">Log in</a>
    <a id="me" href="me">Me</a>
    <form method="post" action="auth/logout"><button>Log out</button></form>
    <form method="post" action="note"><input name="text" value="hello"><button>Save</button></form>
  `))
  app.get('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims, url }, reply) => {
    return await reply.type('text/html').send(`
      <!doctype html><title>me</title><h1>${oidcClaims?.sub}</h1><p>${url.replace(/[<&]/g, '')}</p>
      <form method="post" action="auth/logout"><button>Log out</button></form>
      <a href="./">Home</a>
    `)
  })
  app.post('/note', { preHandler: app.oidc.required() }, async ({ oidcClaims }, reply) =>
    await reply.type('text/html').send(`<!doctype html><h1>saved by ${oidcClaims?.sub}</h1>`))
  app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
}
