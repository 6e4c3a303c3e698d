import Fastify from 'fastify'
import { decodeJwt } from 'jose'
import oidc from '../../index.ts'
import type { FastifyInstance } from 'fastify'
import type { OidcError, OidcOptions } from '../../index.ts'

export interface ApplicationOptions {
  issuer: string
  /** 32 bytes, base64. */
  key: string
}

/** The public origin of all processes. Each browser always uses the same process, as behind a sticky load balancer. */
export const ORIGIN = 'http://app.localhost'
export const SESSION_COOKIE = 'oidc'
/** How long a call to the provider may take, in seconds. */
export const TIMEOUT = 3
export const CLIENT = { client_id: 'soak', client_secret: 'the-secret-of-a-client-on-the-loopback-interface' }

/** The application under test, as each of its processes runs it. */
export async function buildApplication (
  options: ApplicationOptions,
  onError: (error: OidcError) => void = () => {}
): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(oidc, { ...pluginOptions(options), onError })
  addPages(app)
  return app
}

function pluginOptions ({ issuer, key }: ApplicationOptions): OidcOptions {
  return {
    issuer,
    clientId: CLIENT.client_id,
    clientSecret: CLIENT.client_secret,
    baseUrl: ORIGIN,
    allowInsecureLoopback: true,
    timeout: TIMEOUT,
    session: { key, cookieName: SESSION_COOKIE },
    onClaims: ({ sub }) => ({ id: `user of ${sub}` })
  }
}

function addPages (app: FastifyInstance): void {
  const guarded = { preHandler: app.oidc.required() }
  app.get('/', async () => ({ page: 'public' }))
  app.get('/maybe', { preHandler: app.oidc.optional() }, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub ?? null }))
  app.get('/me', guarded, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
  app.post('/me', guarded, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
  // The sub of the token shows whether a user got the token of another user.
  app.get('/token', guarded, async (request) => ({ sub: decodeJwt(await app.oidc.accessToken(request)).sub }))
  app.get<{ Querystring: { sub: string } }>('/login-as', async (request, reply) =>
    await app.oidc.login(request, reply, { returnTo: '/me', authorizationParams: { login_hint: request.query.sub } }))
}
