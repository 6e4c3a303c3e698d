import { BASE_URL, startApp } from './app.ts'
import type { FastifyInstance, FastifyRequest, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { BearerOptions, OidcOptions } from '../../index.ts'
import type { AccessTokenOptions, Provider } from '../../lib/testing/index.ts'

export const API = 'https://api.example.com'
export const METADATA = `${BASE_URL}/.well-known/oauth-protected-resource`

export interface TestApi {
  app: FastifyInstance
  provider: Provider
  /** Sends a request with this Authorization header. */
  send: (
    authorization: string | undefined,
    url?: string,
    headers?: Record<string, string>
  ) => Promise<LightMyRequestResponse>
  /** Sends a request with an access token, which is valid unless the options change it. */
  sendToken: (options?: AccessTokenOptions, url?: string) => Promise<LightMyRequestResponse>
}

export async function start (
  t: Test,
  bearer: Partial<BearerOptions> = {},
  options: Partial<OidcOptions> = {}
): Promise<TestApi> {
  const { app, provider } = await startApp(t, { bearer: { audience: API, ...bearer }, ...options })
  addRoutes(app)
  const send: TestApi['send'] = async (authorization, url = '/api', headers = {}) =>
    await app.inject({ url, headers: { ...(authorization !== undefined && { authorization }), ...headers } })
  const sendToken: TestApi['sendToken'] = async (options = {}, url) =>
    await send(`Bearer ${tokenOf(provider, options)}`, url)
  return { app, provider, send, sendToken }
}

export function addRoutes (app: FastifyInstance): void {
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) =>
    done(null, Object.fromEntries(new URLSearchParams(body as string)))
  )
  app.get('/token', async (request) => await app.oidc.accessToken(request))
  const showUser = async ({ oidcClaims, oidcToken, oidcSession, oidcUser }: FastifyRequest): Promise<object> => ({
    sub: oidcClaims?.sub ?? null,
    token: oidcToken,
    session: oidcSession,
    user: oidcUser
  })
  const { required, optional } = app.oidc
  app.get('/api', { preHandler: required() }, showUser)
  app.post('/api', { preHandler: required() }, showUser)
  app.get('/pure', { preHandler: required({ accept: ['bearer'] }) }, showUser)
  app.get('/any', { preHandler: optional() }, showUser)
  app.get('/pages', { preHandler: required({ accept: ['session'] }) }, showUser)
  app.get('/jobs', { preHandler: required({ accept: ['client'] }) }, showUser)
  app.get('/both', { preHandler: required({ accept: ['bearer', 'client'] }) }, showUser)
  app.get('/mail', { preHandler: required({ scopes: 'email mail:read' }) }, showUser)
  app.get(
    '/admin',
    { preHandler: required({ roles: 'admin', claims: { 'department.name': ['sales', 'finance'] } }) },
    showUser
  )
  app.get('/fresh', { preHandler: required({ maxAge: 60 }) }, showUser)
  app.get('/gold', { preHandler: required({ acr: ['gold', 'platinum'] }) }, showUser)
}

/** An access token for the API, signed by the provider. */
export function tokenOf (provider: Provider, { overrides, ...options }: AccessTokenOptions = {}): string {
  return provider.accessToken({
    sub: 'alice',
    ...options,
    overrides:
      typeof overrides === 'function'
        ? (claims, header) => overrides({ ...claims, aud: API }, header)
        : { aud: API, ...overrides }
  })
}

/** An access token for the API, with these claims. */
export function tokenWith (provider: Provider, claims: Record<string, unknown> = {}): string {
  return tokenOf(provider, { overrides: claims })
}

/** The challenges of a response, one per scheme. */
export function challenges ({ headers }: LightMyRequestResponse): string[] {
  return [headers['www-authenticate'] ?? []].flat()
}

/** A handler that returns all that the plugin added to the request. */
export const identity = async ({
  oidcClaims, oidcToken, oidcSession, oidcUser
}: FastifyRequest): Promise<object> => ({
  claims: oidcClaims,
  token: oidcToken,
  session: oidcSession,
  user: oidcUser
})

/** Sends a request with an access token to any application. */
export async function call (
  app: FastifyInstance,
  url: string,
  token: string
): Promise<{ status: number; body: Record<string, any> }> {
  const { statusCode, payload } = await app.inject({ url, headers: { authorization: `Bearer ${token}` } })
  return { status: statusCode, body: JSON.parse(payload) }
}

/** The tenant that the path names. */
export const tenantOf = ({ params }: FastifyRequest): string => (params as { tenant: string }).tenant
