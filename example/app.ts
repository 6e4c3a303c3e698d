import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import oidc from '../index.ts'
import { css, script } from './assets.ts'
import { adminPage, homePage, mePage, notFoundPage, programsPage, type User } from './pages.ts'

export interface Settings {
  /** The public URL of the application, without a trailing slash. */
  baseUrl: string
  issuer: string
  clientId: string
  clientSecret?: string
  /** 32 bytes, base64. */
  sessionKey: string
  /** With `info`, the log shows why a login was refused. */
  logLevel: string
}

export async function buildApp ({ baseUrl, sessionKey, logLevel, ...provider }: Settings): Promise<FastifyInstance> {
  const app = Fastify({ logger: { level: logLevel } })
  await app.register(oidc, {
    ...provider,
    baseUrl,
    session: { key: sessionKey },
    store: 'memory:',
    broker: { audience: `${baseUrl}/api`, nativeClients: { clientIds: ['example-cli'] } },
    onClaims: async (claims, { userinfo }): Promise<User> => {
      const { name, email } = await userinfo()
      return { name: String(name ?? claims.sub), email: String(email ?? '') }
    }
  })
  // The buttons on the pages post forms without fields.
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, _body, done) =>
    done(null, {})
  )
  addPages(app, baseUrl)
  addAssets(app)
  return app
}

function addPages (app: FastifyInstance, baseUrl: string): void {
  app.get('/', { preHandler: app.oidc.optional() }, async (request, reply) =>
    sendPage(reply, homePage(request.oidcUser as User | null)))

  app.get('/me', { preHandler: app.oidc.required() }, async (request, reply) =>
    sendPage(reply, mePage(userOf(request), request.oidcClaims!, request.oidcSession!)))

  app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, async (request, reply) =>
    sendPage(reply, adminPage(userOf(request))))

  app.get('/programs', { preHandler: app.oidc.required() }, async (request, reply) =>
    sendPage(reply, programsPage(userOf(request), baseUrl)))

  app.post('/programs/end', { preHandler: app.oidc.required() }, async (request, reply) => {
    const ended = await app.oidc.broker.revoke({ sub: request.oidcClaims!.sub })
    return sendPage(reply, programsPage(userOf(request), baseUrl, ended))
  })

  // For sessions and for programs. The request of a program has no `oidcUser`.
  app.get('/api/hello', { preHandler: app.oidc.required() }, async ({ oidcUser, oidcClaims }) =>
    ({ hello: (oidcUser as User | null)?.name ?? oidcClaims?.sub, sub: oidcClaims?.sub }))

  app.setNotFoundHandler((_, reply) => sendPage(reply.code(404), notFoundPage()))
}

function addAssets (app: FastifyInstance): void {
  app.get('/style.css', (_, reply) => reply.type('text/css').send(css))
  app.get('/script.js', (_, reply) => reply.type('text/javascript').send(script))
}

// After a guard has accepted a session there is a user: `onClaims` returned it at login.
function userOf (request: FastifyRequest): User {
  return request.oidcUser as User
}

function sendPage (reply: FastifyReply, page: string): FastifyReply {
  return reply
    .type('text/html')
    .header('cache-control', 'no-store')
    .header(
      'content-security-policy',
      "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
    )
    .send(page)
}
