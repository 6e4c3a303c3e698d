import { randomBytes } from 'node:crypto'
import { splitWords } from '../../util/words.ts'
import { createKeyRing } from './keys.ts'
import type { ActiveFault } from './active-faults.ts'
import type { KeyRing } from './keys.ts'
import type { ProviderClient, ProviderOptions, ProviderUser } from './options.ts'
import type { Fault, Provider, ProviderRequest } from './types.ts'

/** What a user has granted to a client. Every code and token belongs to a grant. */
export interface Grant {
  client: ProviderClient
  user?: ProviderUser
  scope: string
  sid?: string
  auth_time?: number
  acr?: string
  resource?: string
  revoked?: boolean
}

export interface Code {
  grant: Grant
  redirect_uri: string
  code_challenge: string | undefined
  nonce: string | undefined
  expires: number
  used?: boolean
}

export interface AccessToken {
  grant: Grant
  scope: string
  issued: number
  expires: number
}

export interface RefreshToken {
  grant: Grant
  used?: boolean
}

export interface Device {
  client: ProviderClient
  scope: string
  code_challenge: string | undefined
  user_code: string
  expires: number
  polled?: number
  grant?: Grant
  denied?: boolean
}

export interface SsoSession {
  sid: string
  user: ProviderUser
  auth_time: number
  acr: string
  /** The clients that the user has logged in to in this session. */
  clients: Set<ProviderClient>
}

export interface Pushed {
  params: Record<string, string>
  expires: number
}

/** The state of one provider. */
export interface Context {
  provider: Provider
  options: ProviderOptions
  issuer: string
  url: string
  clients: ProviderClient[]
  users: ProviderUser[]
  keys: KeyRing
  requests: ProviderRequest[]
  faults: ActiveFault[]
  codes: Map<string, Code>
  accessTokens: Map<string, AccessToken>
  refreshTokens: Map<string, RefreshToken>
  devices: Map<string, Device>
  pushed: Map<string, Pushed>
  sessions: Map<string, SsoSession>
  assertions: Set<string>
  /** All ID tokens that were issued, for `id_token_hint`. */
  idTokens: Set<string>
}

/** One request, and the faults that apply to it. */
export interface Exchange {
  context: Context
  request: ProviderRequest
  faults: Fault[]
}

export const defaultClient: ProviderClient = {
  client_id: 'web',
  client_secret: 'web-secret-that-is-long-enough-for-hs256'
}

export const defaultUser: ProviderUser = {
  sub: 'alice',
  name: 'Alice Doe',
  given_name: 'Alice',
  family_name: 'Doe',
  preferred_username: 'alice',
  email: 'alice@example.com',
  email_verified: true,
  roles: ['user'],
  realm_access: { roles: ['user'] }
}

export const createContext = (options: ProviderOptions): Omit<Context, 'provider' | 'issuer' | 'url'> => ({
  options,
  clients: options.clients ?? [structuredClone(defaultClient)],
  users: options.users ?? [structuredClone(defaultUser)],
  keys: createKeyRing(),
  requests: [],
  faults: [],
  codes: new Map(),
  accessTokens: new Map(),
  refreshTokens: new Map(),
  devices: new Map(),
  pushed: new Map(),
  sessions: new Map(),
  assertions: new Set(),
  idTokens: new Set()
})

export const forget = (context: Context): void => {
  const { codes, accessTokens, refreshTokens, devices, pushed, sessions, assertions } = context
  for (const kept of [codes, accessTokens, refreshTokens, devices, pushed, sessions, assertions]) kept.clear()
}

export const findUser = ({ users }: Pick<Context, 'users'>, sub?: string): ProviderUser =>
  users.find((user) => sub === undefined || user.sub === sub) ?? { sub: sub ?? 'nobody' }

export const isLive = (token: AccessToken | undefined): token is AccessToken =>
  token !== undefined && token.expires > now() && !token.grant.revoked

export const now = (): number => Math.floor(Date.now() / 1000)

export const random = (): string => randomBytes(24).toString('base64url')

export const words = (scope: string | undefined): string[] => splitWords(scope ?? '')
