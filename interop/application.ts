import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import type { OidcError, OidcOptions, OidcTokens } from '../index.ts'
import oidc from '../index.ts'
import { client } from '../lib/testing/index.ts'
import type { TestBrowser } from '../lib/testing/index.ts'
import { baseUrlOf } from './base-url.ts'
import type { Client } from './clients.ts'

/** A guarded application that listens, and what happened in it. */
export interface Application {
  baseUrl: string
  errors: OidcError[]
  /** The tokens of each login. */
  logins: OidcTokens[]
  /** How many requests for the access token the guard has let through so far. */
  tokenRequests: () => number
  /** The lines of its log, without those of requests. */
  log: string[]
  browser: () => TestBrowser
  close: () => Promise<void>
}

/** How long ago the user of `/fresh` may have authenticated, in seconds. */
export const FRESH = 8

const KEY = Uint8Array.from({ length: 32 }, (_, at) => at)

export async function startApplication (
  registration: Client,
  { session, ...options }: Partial<OidcOptions>
): Promise<Application> {
  const baseUrl = baseUrlOf(registration)
  const errors: OidcError[] = []
  const logins: OidcTokens[] = []
  let tokenRequests = 0
  const log: string[] = []
  const write = (line: string): void => {
    if (!/"msg":"(incoming request|request completed|Server listening)/.test(line)) log.push(line)
  }
  const app = Fastify({ logger: { level: 'info', stream: { write } } })
  // The next application has the same port: a provider must not keep its connections to this one (Keycloak does).
  app.addHook('onRequest', async (_request, reply) => { reply.header('connection', 'close') })
  await app.register(oidc, {
    clientId: registration.clientId,
    clientSecret: registration.clientSecret,
    baseUrl,
    allowInsecureLoopback: true,
    session: { key: KEY, cookieName: registration.clientId, ...session },
    timeout: 30,
    onClaims: (_claims, { tokens }) => { logins.push(tokens) },
    onError: (error) => { errors.push(error) },
    ...options
  })
  addRoutes(app, () => { tokenRequests++ })
  if (options.bearer !== undefined) addClientRoute(app)
  await app.listen({ host: '127.0.0.1', port: registration.port })
  return {
    baseUrl,
    errors,
    logins,
    tokenRequests: () => tokenRequests,
    log,
    browser: () => client({ baseUrl }),
    close: async () => await app.close()
  }
}

function addRoutes (app: FastifyInstance, onTokenRequest: () => void): void {
  const { required, optional } = app.oidc
  app.get('/', async () => 'A public page.')
  app.get('/me', { preHandler: required() }, async ({ oidcClaims }) => oidcClaims)
  app.get('/admin', { preHandler: required({ roles: 'admin' }) }, async ({ oidcClaims }) => oidcClaims)
  app.get('/fresh', { preHandler: required({ maxAge: FRESH }) }, async ({ oidcClaims }) => oidcClaims)
  app.get('/silent', { preHandler: optional({ silent: true }) }, async ({ oidcClaims }) =>
    ({ sub: oidcClaims?.sub ?? null }))
  app.get('/token', { preHandler: required() }, async (request) => {
    onTokenRequest()
    return { token: await app.oidc.accessToken(request, { refresh: 'refresh' in (request.query as object) }) }
  })
  app.get('/api', { preHandler: required() }, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
}

function addClientRoute (app: FastifyInstance): void {
  const preHandler = app.oidc.required({ accept: ['client'] })
  app.get('/import', { preHandler }, async ({ oidcToken }) => ({ client: oidcToken?.clientId }))
}
