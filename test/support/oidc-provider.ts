import { generateKeyPair, randomBytes, type JsonWebKey } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer, type ServerOptions } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import { Provider, type Context } from 'oidc-provider'
import { createMemoryAdapter } from 'oidc-provider/lib/adapters/memory_adapter.js'
import type { Page, UserAgent } from './user-agent.ts'

/** Client metadata as in OpenID Connect Dynamic Client Registration 1.0, section 2. */
export interface ClientMetadata {
  client_id: string
  redirect_uris: string[]
  post_logout_redirect_uris?: string[]
  [parameter: string]: unknown
}

export interface OidcProviderOptions {
  /** Clients in addition to `web`. */
  clients?: ClientMetadata[]
  /** The redirect URIs of the client `web`. Default: none; see `register`. */
  redirectUris?: string[]
  /** The post-logout redirect URIs of the client `web`. Default: none. */
  postLogoutRedirectUris?: string[]
  /** Logs every browser in as this user, without forms. Default: the login and consent forms of the provider. */
  autoLogin?: string
  /** The claims of a user. Default: a name, an e-mail address and, for `alice`, the role `admin`. */
  claims?: (sub: string) => Record<string, unknown>
  /** Replaces parts of the configuration of the provider; `features` replaces its features. */
  configuration?: Record<string, unknown> & { features?: Record<string, unknown> }
  /** Serves https with these options. A client certificate that they trust can be used for `tls_client_auth`. */
  tls?: ServerOptions
  /** The port on 127.0.0.1. Default: a free port. */
  port?: number
}

export interface OidcProvider {
  issuer: string
  /** The client `web`, which authenticates with client_secret_basic. */
  clientId: string
  clientSecret: string
  /** Adds a client, or replaces parameters of an existing one. */
  register (client: Partial<ClientMetadata> & { client_id: string }): Promise<void>
  close (): Promise<void>
}

/** Starts a real OpenID Provider on 127.0.0.1. */
export async function startOidcProvider (options: OidcProviderOptions = {}): Promise<OidcProvider> {
  const { tls, port = 0 } = options
  const server = (
    tls === undefined ? createServer() : createTlsServer({ requestCert: true, rejectUnauthorized: false, ...tls })
  ).listen(port, '127.0.0.1')
  await once(server, 'listening')
  const issuer = `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${(server.address() as AddressInfo).port}`
  const adapter = createMemoryAdapter()
  const register = registry(adapter('Client'))
  const web = webClient(options)
  for (const client of [web, ...options.clients ?? []]) await register(client)
  const { features: _, ...configuration } = options.configuration ?? {}
  const provider = new Provider(issuer, { ...(await configure(options)), adapter, ...configuration })
  server.on(
    'request',
    options.autoLogin === undefined ? provider.callback() : withAutoLogin(provider, options.autoLogin)
  )
  return { issuer, clientId: web.client_id, clientSecret: web.client_secret, register, close: () => close(server) }
}

function webClient ({ redirectUris = [], postLogoutRedirectUris = [] }: OidcProviderOptions) {
  return {
    client_id: 'web',
    client_secret: randomBytes(32).toString('base64url'),
    redirect_uris: redirectUris,
    post_logout_redirect_uris: postLogoutRedirectUris,
    grant_types: [
      'authorization_code', 'refresh_token', 'client_credentials',
      'urn:ietf:params:oauth:grant-type:device_code'
    ]
  } satisfies ClientMetadata
}

function registry (adapter: ReturnType<ReturnType<typeof createMemoryAdapter>>): OidcProvider['register'] {
  const known = new Map<string, Record<string, unknown>>()
  return async (client) => {
    const metadata = { ...known.get(client.client_id), ...client }
    known.set(client.client_id, metadata)
    await adapter.upsert(client.client_id, metadata)
  }
}

async function close (server: Server): Promise<void> {
  server.close().closeAllConnections()
  await once(server, 'close')
}

async function configure (options: OidcProviderOptions): Promise<Record<string, unknown>> {
  const { claims = defaultClaims, autoLogin } = options
  return {
    jwks: { keys: [await signingKey()] },
    cookies: { keys: [randomBytes(32).toString('base64url')] },
    scopes: ['openid', 'offline_access', 'profile', 'email'],
    claims: {
      openid: ['sub', 'roles'],
      profile: ['name', 'preferred_username'],
      email: ['email', 'email_verified']
    },
    findAccount: (_: unknown, sub: string) => ({ accountId: sub, claims: () => ({ ...claims(sub), sub }) }),
    features: { ...features(autoLogin), ...options.configuration?.features },
    clientAuthMethods: [
      'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth',
      'none'
    ],
    ttl: {
      AccessToken: 3600,
      AuthorizationCode: 60,
      ClientCredentials: 3600,
      DeviceCode: 600,
      Grant: 86400,
      IdToken: 3600,
      Interaction: 600,
      RefreshToken: 86400,
      Session: 86400
    },
    clientBasedCORS: () => false,
    renderError: (context: Context, out: Record<string, string>) =>
      show(context, `<pre>${escapeHtml(JSON.stringify(out))}</pre>`),
    // The fetch of the provider refuses loopback addresses, but a back-channel logout must call them here.
    fetch: (url: string, { dispatcher, ...init }: RequestInit & { dispatcher?: unknown }) => fetch(url, init)
  }
}

function features (autoLogin: string | undefined): Record<string, unknown> {
  return {
    devInteractions: { enabled: autoLogin === undefined },
    backchannelLogout: { enabled: true },
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true, ...devicePages },
    introspection: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: { enabled: true, getResourceServerInfo: resourceServer },
    encryption: { enabled: true },
    jwtUserinfo: { enabled: true },
    mTLS: { enabled: true, tlsClientAuth: true, ...certificates },
    revocation: { enabled: true, allowedPolicy: () => true },
    rpInitiatedLogout: { enabled: true, ...logoutPages }
  }
}

// A client that names a resource (RFC 8707) gets a JWT access token for it (RFC 9068).
function resourceServer (_: unknown, resource: string): Record<string, unknown> {
  return { audience: resource, scope: 'read write', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } }
}

const certificates = {
  getCertificate: ({ socket }: { socket: TLSSocket }) => socket.getPeerX509Certificate?.()?.toString(),
  certificateAuthorized: ({ socket }: { socket: TLSSocket }) => socket.authorized,
  certificateSubjectMatches: ({ socket }: { socket: TLSSocket }, property: string, expected: string) =>
    property === 'tls_client_auth_subject_dn' && `CN=${socket.getPeerCertificate().subject.CN}` === expected
}

const devicePages = {
  userCodeInputSource: (context: Context, form: string) => show(context, form),
  userCodeConfirmSource: (context: Context, form: string) => show(context, form),
  successSource: (context: Context) => show(context, 'The device is logged in.')
}

const logoutPages = {
  logoutSource: (context: Context, form: string) =>
    show(context, `${form}<button form="op.logoutForm" name="logout" value="yes">Log out</button>`),
  postLogoutSuccessSource: (context: Context) => show(context, 'You are logged out.')
}

function show (context: Context, body: string): void {
  context.type = 'html'
  context.body = `<!doctype html><title>OpenID Provider</title>${body}`
}

function escapeHtml (text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}

function defaultClaims (sub: string): Record<string, unknown> {
  return {
    name: `${sub.charAt(0).toUpperCase()}${sub.slice(1)} Example`,
    preferred_username: sub,
    email: `${sub}@example.com`,
    email_verified: true,
    roles: sub === 'alice' ? ['admin'] : []
  }
}

async function signingKey (): Promise<JsonWebKey> {
  const { privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: 2048 })
  return { ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig' }
}

function withAutoLogin (provider: Provider, accountId: string) {
  const handle = provider.callback()
  return (request: IncomingMessage, response: ServerResponse): void => {
    if (request.url?.startsWith('/interaction/') !== true) return handle(request, response)
    grantEverything(provider, accountId, request, response).catch((error: Error) => response.destroy(error))
  }
}

async function grantEverything (
  provider: Provider,
  accountId: string,
  request: IncomingMessage,
  response: ServerResponse
): Promise<void> {
  const { params, grantId } = await provider.interactionDetails(request, response)
  const { client_id: clientId, scope = 'openid', resource = [] } = params
  const grant = grantId === undefined ? new provider.Grant({ accountId, clientId }) : await provider.Grant.find(grantId)
  grant.addOIDCScope(scope)
  for (const each of [resource].flat()) grant.addResourceScope(each, scope)
  await provider.interactionFinished(request, response, {
    login: { accountId },
    consent: { grantId: await grant.save() }
  })
}

/**
 * Answers all forms of the provider, from an authorization URL to the redirect back to the client. Returns the callback
 * URL with `code` and `state`, without opening it.
 */
export async function logInAt (agent: UserAgent, authorizationUrl: string, login = 'alice'): Promise<string> {
  const redirectUri = new URL(authorizationUrl).searchParams.get('redirect_uri') ?? undefined
  const page = await answerForms(
    agent,
    await agent.open(authorizationUrl, redirectUri),
    { login, password: 'any' },
    redirectUri
  )
  return locationOf(page)
}

/** Confirms a logout at the provider. Returns the post_logout_redirect_uri with its `state`, without opening it. */
export async function logOutAt (agent: UserAgent, endSessionUrl: string): Promise<string> {
  const returnUri = new URL(endSessionUrl).searchParams.get('post_logout_redirect_uri') ?? undefined
  const page = await answerForms(agent, await agent.open(endSessionUrl, returnUri), { logout: 'yes' }, returnUri)
  return locationOf(page)
}

/** Approves a device login (RFC 8628), from verification_uri_complete to the last page, which it returns. */
export async function approveDevice (agent: UserAgent, verificationUriComplete: string, login = 'alice'): Promise<Page> {
  return await answerForms(agent, await agent.open(verificationUriComplete), { login, password: 'any' })
}

async function answerForms (
  agent: UserAgent,
  first: Page,
  answers: Record<string, string>,
  stopAt?: string
): Promise<Page> {
  let page = first
  for (let forms = 0; page.location === undefined && page.body.includes('<form'); forms++) {
    if (forms === 5) throw new Error(`the provider does not stop asking: ${page.body}`)
    page = await agent.submit(page, answers, stopAt)
  }
  return page
}

function locationOf (page: Page): string {
  if (page.location === undefined) throw new Error(`no redirect at ${page.url} (${page.status}): ${page.body}`)
  return page.location
}
