import { generateKeyPair, randomBytes, type JsonWebKey } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import { promisify } from 'node:util'
import { Provider, type Context } from 'oidc-provider'
import { createMemoryAdapter } from 'oidc-provider/lib/adapters/memory_adapter.js'
import { css } from '../style.ts'
import { devicePage, messagePage, signInPage, signOutPage } from './pages.ts'

const scopes = ['openid', 'offline_access', 'profile', 'email']

/** An OpenID Provider for the examples. It accepts every name without a password, so it listens on loopback only. */
export interface EmbeddedProvider {
  issuer: string
  clientId: string
  clientSecret: string
  close (): Promise<void>
}

export interface ProviderSettings {
  port: number
  redirectUris: string[]
  postLogoutRedirectUris: string[]
  /** Where the links on its pages lead. */
  home: string
}

/** Starts the provider on `http://localhost:{port}`, with one client. */
export async function startProvider (settings: ProviderSettings): Promise<EmbeddedProvider> {
  const { port, redirectUris, postLogoutRedirectUris, home } = settings
  const issuer = `http://localhost:${port}`
  const clientSecret = randomBytes(32).toString('base64url')
  const provider = new Provider(issuer, {
    ...await configuration(home),
    clients: [{
      client_id: 'example',
      client_name: 'the fastify-oidc examples',
      client_secret: clientSecret,
      redirect_uris: redirectUris,
      post_logout_redirect_uris: postLogoutRedirectUris,
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      require_auth_time: true
    }]
  })
  const server = createServer(listener(provider, home)).listen(port, 'localhost')
  await once(server, 'listening')
  return { issuer, clientId: 'example', clientSecret, close: () => close(server) }
}

async function close (server: Server): Promise<void> {
  server.close().closeAllConnections()
  await once(server, 'close')
}

async function configuration (home: string): Promise<Record<string, unknown>> {
  return {
    adapter: createMemoryAdapter(),
    jwks: { keys: [await signingKey()] },
    cookies: { keys: [randomBytes(32).toString('base64url')] },
    scopes,
    claims: { openid: ['sub', 'roles'], profile: ['name', 'preferred_username'], email: ['email', 'email_verified'] },
    findAccount: (_: unknown, login: string) => ({ accountId: login, claims: () => claimsOf(login) }),
    interactions: { url: (_: unknown, { uid }: { uid: string }) => `/sign-in/${uid}` },
    // When several tabs sign in at the same time, each gets a grant, but the session remembers only one of them.
    expiresWithSession: () => false,
    ttl: {
      AccessToken: 600,
      AuthorizationCode: 60,
      DeviceCode: 600,
      Grant: 86400,
      IdToken: 600,
      Interaction: 3600,
      RefreshToken: 86400,
      Session: 86400
    },
    features: {
      devInteractions: { enabled: false },
      deviceFlow: {
        enabled: true,
        userCodeInputSource: (context: Context, form: string) =>
          show(context, devicePage('Which program?', 'Enter the code that it shows.', form, 'Continue', 'op.deviceInputForm')),
        userCodeConfirmSource: (context: Context, form: string, _client: unknown, _device: unknown, code: string) =>
          show(
            context,
            devicePage(
              'Is this your program?',
              `Continue only if it shows the code ${code}.`,
              form,
              'Log in',
              'op.deviceConfirmForm'
            )
          ),
        successSource: (context: Context) =>
          show(context, messagePage('Logged in', 'The program continues by itself. You can close this page.', home))
      },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (context: Context, form: string) => show(context, signOutPage(form)),
        postLogoutSuccessSource: (context: Context) =>
          show(context, messagePage('Signed out', 'You are signed out at the provider.', home))
      }
    },
    renderError: (context: Context, { error_description: text }: { error_description: string }) =>
      show(context, messagePage('Something went wrong', text, home))
  }
}

function claimsOf (login: string): Record<string, unknown> {
  return {
    sub: login,
    name: login.charAt(0).toUpperCase() + login.slice(1),
    preferred_username: login,
    email: `${login}@example.com`,
    email_verified: true,
    roles: login === 'alice' ? ['admin', 'user'] : ['user']
  }
}

async function signingKey (): Promise<JsonWebKey> {
  const { privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: 2048 })
  return { ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig' }
}

function show (context: Context, page: string): void {
  context.type = 'html'
  context.body = page
}

function listener (provider: Provider, home: string): RequestListener {
  const protocol = provider.callback()
  return (request, response) => {
    if (request.url === '/style.css') return send(response, 200, 'text/css', css)
    if (request.url?.startsWith('/sign-in/') !== true) return protocol(request, response)
    signIn(provider, request, response).catch(() => {
      send(
        response,
        400,
        'text/html',
        messagePage('This sign-in has expired', 'It took too long, or you have completed it already.', home)
      )
    })
  }
}

async function signIn (provider: Provider, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { prompt, session } = await provider.interactionDetails(request, response)
  if (prompt.name === 'consent' && session !== undefined) {
    return await finish(provider, request, response, session.accountId)
  }
  if (request.method !== 'POST') return send(response, 200, 'text/html', signInPage(''))
  const form = await formOf(request)
  if (form.has('cancel')) return await provider.interactionFinished(request, response, { error: 'access_denied' })
  const login = form.getAll('login').join().trim().toLowerCase()
  if (/^[a-z0-9._-]{1,40}$/.test(login)) return await finish(provider, request, response, login)
  send(response, 400, 'text/html', signInPage('Use at most 40 letters, digits, dots and dashes.'))
}

// A user who signs in here grants all scopes.
async function finish (
  provider: Provider,
  request: IncomingMessage,
  response: ServerResponse,
  accountId: string
): Promise<void> {
  const { params } = await provider.interactionDetails(request, response)
  const grant = new provider.Grant({ accountId, clientId: params.client_id })
  grant.addOIDCScope(scopes.join(' '))
  await provider.interactionFinished(request, response, {
    login: { accountId },
    consent: { grantId: await grant.save() }
  })
}

async function formOf (request: IncomingMessage): Promise<URLSearchParams> {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  return new URLSearchParams(text)
}

function send (response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { 'content-type': `${type}; charset=utf-8`, 'cache-control': 'no-store' }).end(body)
}
