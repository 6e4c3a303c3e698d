import { createContext, findUser, forget, now, random } from './provider/context.ts'
import { approveDevice, denyDevice } from './provider/device.ts'
import { publishedKeys } from './provider/key-set.ts'
import { releaseKeys, rotate } from './provider/keys.ts'
import { listen } from './provider/server.ts'
import { issueIdToken, issueJwtAccessToken, issueLogoutToken } from './provider/tokens.ts'
import { formType, httpWire, injectWire } from './wire.ts'
import type { Context, Grant } from './provider/context.ts'
import type { ActiveFault } from './provider/active-faults.ts'
import type { Fault } from './provider/types.ts'
import type { Listening } from './provider/server.ts'
import type { AccessTokenOptions, LogoutAnswer, SendLogoutOptions, TokenOptions } from './provider/token-options.ts'
import type { Provider } from './provider/types.ts'
import type { ProviderClient, ProviderOptions, ProviderUser } from './provider/options.ts'

const clientOf = ({ clients }: Context, client_id: string | undefined): ProviderClient => {
  const client = clients.find((client) => client_id === undefined || client.client_id === client_id)
  if (!client) throw new Error(`the provider has no client "${client_id}"`)
  return client
}

type UserGrant = Grant & { user: ProviderUser }

const standardScope = 'openid profile email'

const grantFor = (context: Context, { client_id, sub }: TokenOptions, scope = standardScope): UserGrant => ({
  client: clientOf(context, client_id), user: findUser(context, sub), scope, sid: random(), auth_time: now(), acr: '1'
})

const mintAccessToken = (context: Context, { scope = standardScope, ...options }: AccessTokenOptions): string => {
  const issued = now()
  const record = { grant: grantFor(context, options, scope), scope, issued, expires: issued + 3600 }
  const token = issueJwtAccessToken(context, record, [], options)
  context.accessTokens.set(token, record)
  return token
}

const switchOn = (context: Context, faults: Fault[]): () => void => {
  const added: ActiveFault[] = faults.map((fault) => ({ fault, left: fault.times ?? Infinity }))
  context.faults.push(...added)
  return () => {
    context.faults = context.faults.filter((entry) => !added.includes(entry))
  }
}

interface Delivery {
  app: SendLogoutOptions['app']
  ca: string | undefined
}

const deliver = async (url: string, body: string, { app, ca }: Delivery): Promise<LogoutAnswer> => {
  const wire = app ? injectWire(app) : httpWire(ca)
  const response = await wire({ method: 'POST', url: new URL(url), headers: formType, body })
  return { ...response, body: response.body.toString() }
}

type Minting = Pick<Provider, 'idToken' | 'accessToken' | 'logoutToken' | 'sendLogoutToken'>
type Controls = Omit<Provider, 'issuer' | 'url' | 'port' | 'close' | keyof Minting>

const minting = (context: Context): Minting => ({
  idToken: (options = {}) => issueIdToken(context, { grant: grantFor(context, options), ...options }),
  accessToken: (options = {}) => mintAccessToken(context, options),
  logoutToken: (options) => issueLogoutToken(context, clientOf(context, options.client_id), options),
  sendLogoutToken: (url, { app, ca, fields, ...options }) => {
    const logout_token = issueLogoutToken(context, clientOf(context, options.client_id), options)
    return deliver(url, new URLSearchParams({ logout_token, ...fields }).toString(), { app, ca })
  }
})

const close = async (context: Context, listening: Listening): Promise<void> => {
  await listening.close()
  releaseKeys(context.keys)
}

const controls = (context: Context): Controls => ({
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
 * Starts a real OpenID Provider over HTTP on a free port of 127.0.0.1. It follows the specifications and logs the user
 * in without a page; `fault` makes it misbehave.
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
    issuer, url, port, ...controls(context), ...minting(context), close: () => close(context, listening)
  }
  return Object.assign(context, { issuer, url, provider }).provider
}
