import Fastify from 'fastify'
import { decodeJwt } from 'jose'
import oidc from '../../index.ts'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { OidcError, OidcOptions } from '../../index.ts'
import type { Oidc } from '../../types/fastify.ts'

/** The issuers of the providers. */
export interface Issuers {
  issuer: string
  /** By the name of the tenant. */
  tenants: Record<string, string>
}

/** Where sessions, logouts, grants and refreshes are shared. */
export interface StoreOptions {
  /** The address of the store. `undefined`: none. */
  url: string | undefined
  /** Whether the sessions are in the store, and not in cookies. */
  hasSessions: boolean
}

export interface ApplicationOptions extends Issuers {
  /** 32 bytes, base64. */
  key: string
  store: StoreOptions
}

/** The public origin of all processes. */
export const ORIGIN = 'http://app.localhost'
export const SESSION_COOKIE = 'oidc'
/** How long a call to the provider may take, in seconds. Long: other work may share the cores. */
export const TIMEOUT = 10
export const CLIENT = { client_id: 'soak', client_secret: 'the-secret-of-a-client-on-the-loopback-interface' }
/** The audience of all access tokens. */
export const API = 'https://api.example.com'
export const TENANTS = ['red', 'blue']
/** Where the part with tenants is mounted. */
export const TENANTS_PATH = '/tenants'
/** The public client of the programs that log in at the broker. */
export const PROGRAM = 'cli'

export interface Application {
  app: FastifyInstance
  /** Of the application with one provider. */
  oidc: Oidc
}

/** The application under test, as each of its processes runs it: one part has one provider, and one has tenants. */
export async function buildApplication (
  options: ApplicationOptions,
  onError: (error: OidcError) => void = () => {}
): Promise<Application> {
  const app = Fastify()
  let decorated!: Oidc
  await app.register(async (scope) => {
    await scope.register(oidc, { ...ownOptions(options), onError })
    addPages(scope)
    decorated = scope.oidc
  })
  await app.register(async (scope) => {
    await scope.register(oidc, { ...tenantOptions(options), onError })
    addTenantPages(scope)
  }, { prefix: TENANTS_PATH })
  return { app, oidc: decorated }
}

function commonOptions ({ key, store: { url, hasSessions } }: ApplicationOptions, cookieName: string) {
  return {
    allowInsecureLoopback: true,
    timeout: TIMEOUT,
    clientId: CLIENT.client_id,
    clientSecret: CLIENT.client_secret,
    bearer: { audience: API },
    loginParams: ['login_hint'],
    session: { key, cookieName, store: hasSessions },
    ...(url !== undefined && { store: url })
  }
}

function ownOptions (options: ApplicationOptions): OidcOptions {
  return {
    ...commonOptions(options, SESSION_COOKIE),
    baseUrl: ORIGIN,
    issuer: options.issuer,
    onClaims: ({ sub }) => ({ id: `user of ${sub}` }),
    ...(options.store.url !== undefined && { broker: { audience: API, nativeClients: { clientIds: [PROGRAM] } } })
  }
}

function tenantOptions (options: ApplicationOptions): OidcOptions {
  return {
    ...commonOptions(options, `${SESSION_COOKIE}-tenant`),
    baseUrl: `${ORIGIN}${TENANTS_PATH}`,
    resolveProvider (_request, name = '') {
      const issuer = options.tenants[name]
      return issuer === undefined ? null : { issuer }
    }
  }
}

const showUser = async ({ oidcClaims }: FastifyRequest) => ({ sub: oidcClaims?.sub ?? null, iss: oidcClaims?.iss })

function addPages (app: FastifyInstance): void {
  const guarded = { preHandler: app.oidc.required() }
  app.get('/', async () => ({ page: 'public' }))
  app.get('/maybe', { preHandler: app.oidc.optional() }, showUser)
  app.get('/me', guarded, showUser)
  app.post('/me', guarded, showUser)
  app.get('/api', { preHandler: app.oidc.required({ accept: ['bearer'] }) }, showUser)
  // The sub of the token shows whether a user got the token of another user.
  app.get('/token', guarded, async (request) => ({ sub: decodeJwt(await app.oidc.accessToken(request)).sub }))
  app.get<{ Querystring: { sub: string } }>('/login-as', async (request, reply) =>
    await app.oidc.login(request, reply, { returnTo: '/me', authorizationParams: { login_hint: request.query.sub } }))
}

function addTenantPages (app: FastifyInstance): void {
  const provider = (request: FastifyRequest): string => (request.params as { tenant: string }).tenant
  app.get('/t/:tenant/me', { preHandler: app.oidc.required({ provider }) }, showUser)
}
