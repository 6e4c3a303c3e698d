import Fastify from 'fastify'
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import oidc from '../../index.ts'
import type { OidcOptions, ResolvedProvider } from '../../index.ts'
import { parseOptions } from '../../lib/options/settings.ts'
import { replaceNow } from '../../lib/testing/clock.ts'
import { client, startProvider } from '../../lib/testing/index.ts'
import type { ProviderSettings } from '../../lib/options/provider.ts'
import type { Provider, ProviderOptions, TestBrowser } from '../../lib/testing/index.ts'
import { testKey } from './keys.ts'

export const BASE_URL = 'https://app.example.com'
export const SESSION_KEY = testKey(7)

/** A log that writes nothing. */
export const silentLog = Fastify().log

/** The part of a test that registers its clean-up. */
export interface Teardown {
  teardown: (handler: () => unknown) => void
}

export interface TestApp {
  app: FastifyInstance
  provider: Provider
  browser: TestBrowser
}

/** The options of the plugin for a provider of the test kit. */
export function optionsFor (provider: Provider, options: Partial<OidcOptions> = {}): OidcOptions {
  return {
    ...(options.metadata === undefined && options.discoveryUrl === undefined && { issuer: provider.issuer }),
    clientId: 'web',
    clientSecret: provider.clients[0]?.client_secret as string,
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    timeout: 20, // the default fails a login where other work shares the cores
    session: { key: SESSION_KEY },
    ...options
  }
}

/** The settings of the only provider. */
export function providerSettings (options: OidcOptions): ProviderSettings {
  return parseOptions(options).providers.get('default') as ProviderSettings
}

/** The options for one provider of the test kit among several. */
export function registrationOf ({ issuer, clients: [web] }: Provider): ResolvedProvider {
  return { issuer, clientId: 'web', clientSecret: web?.client_secret as string }
}

/** Starts a provider and an application with public and guarded pages, and a browser without cookies. */
export async function startApp (
  t: Teardown,
  options: Partial<OidcOptions> = {},
  providerOptions: ProviderOptions = {},
  server: FastifyServerOptions = {}
): Promise<TestApp> {
  const provider = await startProvider(providerOptions)
  t.teardown(async () => await provider.close())
  const app = await buildApp(t, optionsFor(provider, options), server)
  return { app, provider, browser: client({ app, baseUrl: options.baseUrl ?? BASE_URL }) }
}

/** Builds only the application. */
export async function buildApp (
  t: Teardown,
  options: OidcOptions,
  server: FastifyServerOptions = {}
): Promise<FastifyInstance> {
  const app = Fastify(server)
  t.teardown(async () => await app.close())
  await app.register(oidc, options)
  app.get('/', async () => ({ page: 'public' }))
  app.get('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims, oidcUser, oidcSession }) => ({
    claims: oidcClaims,
    user: oidcUser,
    session: oidcSession
  }))
  app.get('/maybe', { preHandler: app.oidc.optional() }, async ({ oidcClaims }) => ({ claims: oidcClaims }))
  app.post('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims }) => ({ changed: oidcClaims?.sub }))
  return app
}

/** Logs a user in, in a new browser. The provider accepts any `sub`. */
export async function logIn (
  { app, provider }: Pick<TestApp, 'app' | 'provider'>,
  sub: string,
  baseUrl = BASE_URL
): Promise<TestBrowser> {
  const browser = client({ app, baseUrl })
  provider.options.approve = () => sub
  const page = await browser.goto(`${baseUrl}/auth/login`)
  if (page.status !== 200) throw new Error(`the login failed: ${page.status} ${page.text()}`)
  return browser
}

/** Stops the clock until the test moves it, so that no second ends by chance between two steps. */
export function stopClock (t: Teardown): { advance: (seconds: number) => void } {
  let time = Math.floor(Date.now() / 1000) * 1000
  t.teardown(replaceNow(() => time))
  return { advance: (seconds) => { time += seconds * 1000 } }
}
