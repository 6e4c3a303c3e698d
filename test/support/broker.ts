import { createHash, randomBytes } from 'node:crypto'
import { startApp } from './app.ts'
import type { FastifyInstance, FastifyRequest, FastifyServerOptions, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { BrokerOptions, OidcOptions } from '../../index.ts'
import type { Fault, Provider, ProviderOptions, TestBrowser } from '../../lib/testing/index.ts'

export const AUDIENCE = 'https://api.example.com'
/** The audience of the provider's own access tokens. */
export const PROVIDER_API = 'https://web.example.com'
export const REDIRECT_URI = 'http://127.0.0.1:53100/callback'
export const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code'
export const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'

export interface Tokens {
  access_token: string
  refresh_token: string
  [field: string]: unknown
}

/** An application with a broker, its provider, and requests to both. */
export interface TestBroker {
  app: FastifyInstance
  provider: Provider
  browser: TestBrowser
  post: (
    path: string,
    form: Record<string, string>,
    headers?: Record<string, string>
  ) => Promise<LightMyRequestResponse>
  /** Sends a form to the token endpoint. */
  token: (form: Record<string, string>) => Promise<LightMyRequestResponse>
  /** Calls a guarded route with an access token. */
  api: (token: string, url?: string) => Promise<LightMyRequestResponse>
  /** The tokens after a login by device flow. */
  byDevice: (sub?: string) => Promise<Tokens>
}

export type Options = Partial<Omit<OidcOptions, 'broker'>> & { broker?: Partial<BrokerOptions> }

export async function start (
  t: Test,
  { broker, ...options }: Options = {},
  providerOptions: ProviderOptions = {},
  server: FastifyServerOptions = {}
): Promise<TestBroker> {
  const { app, provider, browser } = await startApp(
    t,
    {
      store: 'memory:',
      ...options,
      broker: { audience: AUDIENCE, nativeClients: { clientIds: ['cli'] }, ...broker }
    },
    { deviceInterval: 1, ...providerOptions },
    server
  )
  return { provider, browser, ...clientsOf(app, provider) }
}

/** Requests of clients to an application with a broker. */
export function clientsOf (app: FastifyInstance, provider: Provider): Omit<TestBroker, 'provider' | 'browser'> {
  const showUser = async ({ oidcClaims, oidcToken }: FastifyRequest): Promise<unknown> => ({
    claims: oidcClaims,
    token: oidcToken
  })
  app.get('/api', { preHandler: app.oidc.required() }, showUser)
  app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, showUser)
  app.get('/mail', { preHandler: app.oidc.required({ scopes: 'email' }) }, showUser)
  const post: TestBroker['post'] = async (path, form, headers = {}) =>
    await app.inject({
      method: 'POST',
      url: `/auth/${path}`,
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
      payload: new URLSearchParams(form).toString()
    })
  const token: TestBroker['token'] = async (form) => await post('token', form)
  const api: TestBroker['api'] = async (token, url = '/api') =>
    await app.inject({ url, headers: { authorization: `Bearer ${token}` } })
  const byDevice = async (sub = 'alice'): Promise<Tokens> => {
    const { device_code: deviceCode } = (await post('device', {})).json()
    provider.approveDevice(undefined, sub)
    return (await token({ grant_type: DEVICE, device_code: deviceCode })).json()
  }
  return { app, post, token, api, byDevice }
}

export function pkce (): { verifier: string, challenge: string } {
  const verifier = randomBytes(32).toString('base64url')
  return { verifier, challenge: createHash('sha256').update(verifier).digest('base64url') }
}

/** The token endpoint of the provider answers with this error. */
export function refusal (error: string, status = 400): Fault {
  return { on: 'token', answer: (given) => { Object.assign(given, { status, body: JSON.stringify({ error }) }) } }
}

/** Follows the redirects of a native login up to the redirect URI of the native application. */
export async function followToNative (browser: TestBrowser, query: Record<string, string>): Promise<URL> {
  let { location } = await browser.step(`/auth/login?${new URLSearchParams(query).toString()}`)
  for (let steps = 0; steps < 5 && location?.startsWith('http://127.0.0.1:53100') !== true; steps++) {
    location = (await browser.step(location as string)).location
  }
  return new URL(location as string)
}

/** Sends a refresh token to the token endpoint. */
export async function refresh (
  { token }: Pick<TestBroker, 'token'>,
  { refresh_token: refreshToken }: Tokens,
  more: Record<string, string> = {}
): Promise<LightMyRequestResponse> {
  return await token({ grant_type: 'refresh_token', refresh_token: refreshToken, ...more })
}

/** Sends an access token of the provider to the token endpoint, for token exchange. */
export async function exchange (
  { token }: Pick<TestBroker, 'token'>,
  subjectToken: string,
  more: Record<string, string> = {}
): Promise<LightMyRequestResponse> {
  return await token({ grant_type: EXCHANGE, subject_token: subjectToken, ...more })
}

/** Like `start`, with access tokens of the provider to exchange. */
export async function startExchange (
  t: Test,
  options: Options = {},
  server: FastifyServerOptions = {}
): Promise<TestBroker & { subject: (overrides?: Record<string, unknown>) => string }> {
  const world = await start(t, { bearer: { audience: PROVIDER_API }, ...options }, {}, server)
  return {
    ...world,
    subject: (overrides = {}) =>
      world.provider.accessToken({ sub: 'alice', overrides: { aud: PROVIDER_API, ...overrides } })
  }
}

/** The tokens that were revoked at the provider. */
export function revokedAt ({ provider }: Pick<TestBroker, 'provider'>): Array<string | undefined> {
  return provider.requests
    .filter(({ endpoint }) => endpoint === 'revocation')
    .map(({ body }) => body['token'] as string)
}
