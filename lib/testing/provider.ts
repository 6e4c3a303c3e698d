import { createContext, forget, now, random } from './provider/context.ts'
import { approveDevice, denyDevice, publishedKeys } from './provider/endpoints.ts'
import { releaseKeys, rotate } from './provider/keys.ts'
import { listen } from './provider/server.ts'
import { issueIdToken, issueJwtAccessToken, issueLogoutToken } from './provider/tokens.ts'
import type { Context, Grant } from './provider/context.ts'
import type { ActiveFault, Fault } from './provider/fault.ts'
import type { Listening } from './provider/server.ts'
import type {
  LogoutAnswer, Provider, ProviderClient, ProviderOptions, ProviderUser, SendLogoutOptions, TokenOptions
} from './provider/types.ts'

const clientOf = ({ clients }: Context, client_id: string | undefined): ProviderClient => {
  const client = clients.find((client) => client_id === undefined || client.client_id === client_id)
  if (!client) throw new Error(`the provider has no client "${client_id}"`)
  return client
}

const userOf = ({ users }: Context, sub: string | undefined): ProviderUser =>
  users.find((user) => sub === undefined || user.sub === sub) ?? { sub: sub ?? 'nobody' }

const grantFor = (context: Context, { client_id, sub }: TokenOptions, scope: string): Grant & { user: ProviderUser } => ({
  client: clientOf(context, client_id), user: userOf(context, sub), scope, sid: random(), auth_time: now(), acr: '1'
})

const switchOn = (context: Context, faults: Fault[]): () => void => {
  const added: ActiveFault[] = faults.map((fault) => ({ fault, left: fault.times ?? Infinity }))
  context.faults.push(...added)
  return () => {
    context.faults = context.faults.filter((entry) => !added.includes(entry))
  }
}

const form = { 'content-type': 'application/x-www-form-urlencoded' }

const deliver = async (url: string, payload: string, app: SendLogoutOptions['app']): Promise<LogoutAnswer> => {
  if (!app) {
    const response = await fetch(url, { method: 'POST', headers: form, body: payload, redirect: 'manual' })
    return { status: response.status, headers: response.headers, body: await response.text() }
  }
  const headers = { ...form, host: new URL(url).host }
  const { statusCode, headers: answered, body } = await app.inject({ method: 'POST', url, headers, payload })
  const pairs = Object.entries(answered).flatMap(([name, value]) => value === undefined ? [] : [[name, String(value)] as [string, string]])
  return { status: statusCode, headers: new Headers(pairs), body }
}

const tokenMethods = (context: Context): Pick<Provider, 'idToken' | 'accessToken' | 'logoutToken' | 'sendLogoutToken'> => ({
  idToken: (options = {}) => issueIdToken(context, { grant: grantFor(context, options, 'openid profile email'), ...options }),
  accessToken: ({ scope = 'openid profile email', ...options } = {}) => {
    const issued = now()
    const record = { grant: grantFor(context, options, scope), scope, issued, expires: issued + 3600 }
    const token = issueJwtAccessToken(context, record, [], options)
    context.accessTokens.set(token, record)
    return token
  },
  logoutToken: (options) => issueLogoutToken(context, clientOf(context, options.client_id), options),
  sendLogoutToken: (url, { app, fields, ...options }) => {
    const logout_token = issueLogoutToken(context, clientOf(context, options.client_id), options)
    return deliver(url, new URLSearchParams({ logout_token, ...fields }).toString(), app)
  }
})

const close = async (context: Context, listening: Listening): Promise<void> => {
  await listening.close()
  releaseKeys(context.keys)
}

const controls = (context: Context): Omit<Provider, 'issuer' | 'url' | 'port' | 'close' | keyof ReturnType<typeof tokenMethods>> => ({
  options: context.options,
  users: context.users,
  clients: context.clients,
  requests: context.requests,
  count: (endpoint) => context.requests.filter((request) => request.endpoint === endpoint).length,
  clearRequests: () => { context.requests.length = 0 },
  fault: (...faults) => switchOn(context, faults.flat()),
  clearFaults: () => { context.faults = [] },
  rotateKeys: (options = {}) => rotate(context.keys, options),
  jwks: () => publishedKeys(context),
  approveDevice: (user_code, sub) => approveDevice(context, user_code, sub),
  denyDevice: (user_code) => denyDevice(context, user_code),
  forget: () => forget(context)
})

/**
 * Starts a real OpenID Provider over HTTP on a free port of 127.0.0.1. It does the flows right and logs in without
 * asking; `fault` makes it do them wrong.
 *
 * @example
 * const provider = await startProvider()
 * t.teardown(() => provider.close())
 * provider.fault(faults['invalid-iss'])
 */
export const startProvider = async (options: ProviderOptions = {}): Promise<Provider> => {
  const context = createContext(options) as Context
  const listening = await listen(options, () => context)
  const { url, port } = listening
  const issuer = url + (options.path ?? '')
  const provider: Provider = {
    issuer, url, port, ...controls(context), ...tokenMethods(context), close: () => close(context, listening)
  }
  return Object.assign(context, { issuer, url, provider }).provider
}
