import type { OidcError } from '../errors.ts'
import type { ClaimSource } from '../../types/options.ts'

/**
 * What the doctor found, as `--json` prints it. Newer versions may add members. They rename and remove none as long as
 * `version` is the same.
 */
export interface Report {
  version: 1
  /** As it was given. */
  issuer: string
  /** Whether logins can work: no finding has the level `error`. */
  usable: boolean
  /** `null` when it could not be read. */
  metadata: MetadataReport | null
  /** `null` when they could not be read. */
  keys: KeyReport[] | null
  /** `null` without a client. */
  client: ClientReport | null
  /** `null` without a login, or when it did not succeed. */
  login: LoginReport | null
  findings: Finding[]
  /** The options to write, without secrets. */
  options: Record<string, unknown>
  /** The same as TypeScript. */
  snippet: string
  register: Registration
}

/** `error`: logins cannot work. `warning`: something does not work, or has to be set. `note`: good to know. */
export type Level = 'error' | 'warning' | 'note'

export interface Finding {
  level: Level
  /** Stays the same when the message changes. */
  code: string
  message: string
  nextStep: string
  /** Options of the plugin that go with it. */
  options?: Record<string, unknown>
}

export interface MetadataReport {
  url: string
  /** `null` where the provider names none. */
  endpoints: Record<string, string | null>
  /** What the provider says that it supports. `null` where it says nothing. */
  supports: Record<string, boolean | string[] | null>
}

export interface KeyReport {
  kid: string | null
  kty: string | null
  alg: string | null
  use: string | null
}

export interface ClientReport {
  clientId: string
  attempts: Attempt[]
}

/** One token request with a code that does not exist. */
export interface Attempt {
  clientAuth: string
  basicEncoding?: 'raw'
  result: 'accepted' | 'refused' | 'unclear' | 'failed'
  detail: string
}

export interface LoginReport {
  idToken: Record<string, unknown>
  /** `null` when it could not be asked. */
  userinfo: Record<string, unknown> | null
  /** `null` when it is not a JWT. */
  accessToken: Record<string, unknown> | null
  roles: FoundRoles[]
  /** What the provider answers to `prompt=none`, first without and then with a session of its own. */
  promptNone: { anonymous: string, loggedIn: string }
  maxAge: string
}

export interface FoundRoles {
  source: ClaimSource
  /** As in the option `roleClaims`. */
  path: string
  roles: string[]
}

/** What an operator registers at the provider. */
export interface Registration {
  redirectUri: string
  postLogoutRedirectUri: string
  backchannelLogoutUri: string
  frontchannelLogoutUri: string
}

export function finding (
  level: Level,
  code: string,
  message: string,
  nextStep: string,
  options?: Record<string, unknown>
): Finding {
  return { level, code, message, nextStep, ...(options !== undefined && { options }) }
}

/** What was wrong, in the words of the log. */
export function detailOf ({ detail, message }: OidcError): string {
  return detail ?? message
}
