import { BASE_URL, SESSION_KEY, buildApp, optionsFor } from '../support/app.ts'
import { client, startClock, startProvider } from '../../lib/testing/index.ts'
import type { FastifyInstance } from 'fastify'
import type { OidcError, OidcOptions, OidcUser } from '../../index.ts'
import type {
  Claims, Clock, Fault, Provider, ProviderClient, ProviderOptions, TestBrowser
} from '../../lib/testing/index.ts'

export const CALLBACK = `${BASE_URL}/auth/callback`
export const LOGGED_OUT = `${BASE_URL}/auth/logged-out`

/** A new relying party, its provider and a browser. */
export interface Party {
  app: FastifyInstance
  provider: Provider
  browser: TestBrowser
  clock: Clock
  /** The registration of the relying party. */
  client: ProviderClient
  responseMode: 'query' | 'form_post'
  /** The token responses, oldest first. */
  issued: Claims[]
  /** The errors that the plugin answered with, oldest first. */
  errors: OidcError[]
}

export interface Setup {
  options?: Partial<OidcOptions>
  provider?: ProviderOptions
  /** Members that replace those of a registration for client_secret_basic. `undefined` removes a member. */
  client?: { [Member in keyof ProviderClient]?: ProviderClient[Member] | undefined }
}

export type Start = (setup?: Setup) => Promise<Party>

export interface World {
  start: Start
  parties: Party[]
  close: () => Promise<void>
}

const registration: ProviderClient = {
  client_id: 'web',
  client_secret: 'a secret of the conformance suite',
  token_endpoint_auth_method: 'client_secret_basic',
  redirect_uris: [CALLBACK],
  post_logout_redirect_uris: [LOGGED_OUT]
}

/** Starts parties, and stops all of them at the end. */
export function createWorld (): World {
  const clock = startClock()
  const closers: Array<() => unknown> = [() => clock.restore()]
  const teardown = { teardown: (close: () => unknown) => { closers.push(close) } }
  const parties: Party[] = []

  const start: Start = async (setup = {}) => {
    const registered = { ...registration, ...setup.client } as ProviderClient
    const provider = await startProvider({ ...setup.provider, clients: [registered] })
    teardown.teardown(async () => await provider.close())
    const errors: OidcError[] = []
    const options = optionsOf(provider, registered, setup, errors)
    const app = await buildApp(teardown, options)
    addRoutes(app)
    const ca = setup.provider?.tls?.cert as string | undefined
    const browser = client({ app, baseUrl: BASE_URL, ...(ca !== undefined && { ca }) })
    const party = {
      app,
      provider,
      browser,
      clock,
      client: registered,
      responseMode: options.responseMode ?? 'query',
      issued: record(provider),
      errors
    }
    parties.push(party)
    return party
  }

  return {
    start,
    parties,
    async close () {
      for (const close of closers.reverse()) await close()
    }
  }
}

// For the suite, a login is complete when UserInfo was called: `onClaims` calls it.
function optionsOf (
  provider: Provider,
  { client_id }: ProviderClient,
  { options = {} }: Setup,
  errors: OidcError[]
): OidcOptions {
  return {
    ...optionsFor(provider),
    clientId: client_id,
    session: { key: SESSION_KEY, idleTimeout: 28_800 },
    onClaims: async (_claims, { userinfo }) => await userinfo() as OidcUser,
    onError: (error) => { errors.push(error) },
    telemetry: false,
    ...options
  }
}

function addRoutes (app: FastifyInstance): void {
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => ({
    token: await app.oidc.accessToken(request)
  }))
  app.get(
    '/silent',
    async (request, reply) =>
      await app.oidc.login(request, reply, { authorizationParams: { prompt: 'none', max_age: '0' } })
  )
}

function record (provider: Provider): Claims[] {
  const issued: Claims[] = []
  const fault: Fault = { on: 'token', tokenResponse: (answer) => { issued.push(structuredClone(answer)) } }
  provider.fault(fault)
  return issued
}
