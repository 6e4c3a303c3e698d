import { createHash, randomBytes } from 'node:crypto'
import { startApp } from './app.ts'
import type { FastifyInstance, FastifyRequest, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { BrokerOptions, OidcOptions } from '../../index.ts'
import type { Fault, Provider, ProviderOptions, TestBrowser } from '../../lib/testing/index.ts'

export const AUDIENCE = 'https://api.example.com'
export const REDIRECT_URI = 'http://127.0.0.1:53100/callback'
export const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code'
export const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'

export interface Tokens {
  access_token: string
  refresh_token: string
  [field: string]: unknown
}

export interface World {
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
  api: (token: string, url?: string) => Promise<LightMyRequestResponse>
  /** Somebody logs in by device flow. */
  byDevice: (sub?: string) => Promise<Tokens>
}

export type Options = Partial<Omit<OidcOptions, 'broker'>> & { broker?: Partial<BrokerOptions> }

export async function start (
  t: Test,
  { broker, ...options }: Options = {},
  providerOptions: ProviderOptions = {}
): Promise<World> {
  const { app, provider, browser } = await startApp(
    t,
    {
      store: 'memory:',
      ...options,
      broker: { audience: AUDIENCE, nativeClients: { clientIds: ['cli'] }, ...broker }
    },
    { deviceInterval: 1, ...providerOptions }
  )
  return { provider, browser, ...programs(app, provider) }
}

export function programs (app: FastifyInstance, provider: Provider): Omit<World, 'provider' | 'browser'> {
  const whoIs = async ({ oidcClaims, oidcToken }: FastifyRequest): Promise<unknown> => ({
    claims: oidcClaims,
    token: oidcToken
  })
  app.get('/api', { preHandler: app.oidc.required() }, whoIs)
  app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, whoIs)
  app.get('/mail', { preHandler: app.oidc.required({ scopes: 'email' }) }, whoIs)
  const post: World['post'] = async (path, form, headers = {}) =>
    await app.inject({
      method: 'POST',
      url: `/auth/${path}`,
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
      payload: new URLSearchParams(form).toString()
    })
  const token: World['token'] = async (form) => await post('token', form)
  const api: World['api'] = async (token, url = '/api') =>
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

/** The provider's token endpoint says no. */
export function refusal (error: string, status = 400): Fault {
  return { on: 'token', answer: (given) => { Object.assign(given, { status, body: JSON.stringify({ error }) }) } }
}

/** Follows a native login until it leaves the application for the native one. */
export async function untilNative (browser: TestBrowser, query: Record<string, string>): Promise<URL> {
  let { location } = await browser.step(`/auth/login?${new URLSearchParams(query).toString()}`)
  for (let steps = 0; steps < 5 && location?.startsWith('http://127.0.0.1:53100') !== true; steps++) {
    location = (await browser.step(location as string)).location
  }
  return new URL(location as string)
}
