import { isRecord } from '../util/json.ts'
import { splitWords } from '../util/words.ts'
import { bool, check, optional, strings, text } from './check.ts'
import type { ProviderOptions } from '../../types/options.ts'

/** What an authorization request asks for. */
export interface AuthorizationSettings {
  scope: string
  resource: string[]
  authorizationParams: Record<string, string>
  pushedAuthorizationRequests: boolean
}

// The plugin sets these itself. An application that set them too could weaken the login
// (RFC 9700, section 2.1).
const RESERVED_PARAMS: ReadonlySet<string> = new Set([
  'client_id', 'redirect_uri', 'response_type', 'response_mode', 'scope', 'state', 'nonce', 'code_challenge',
  'code_challenge_method', 'request', 'request_uri', 'resource'
])

/** Throws FST_OIDC_OPTION. */
export function parseAuthorization (options: ProviderOptions): AuthorizationSettings {
  const offlineAccess = bool(options.offlineAccess, false, 'offlineAccess')
  const audience = optional(options.audience, 'audience', text)
  return {
    scope: parseScope(options, offlineAccess),
    resource: optional(options.resource, 'resource', parseResource) ?? [],
    authorizationParams: {
      ...(offlineAccess && { prompt: 'consent' }), // OpenID Connect Core 1.0, section 11
      ...(audience !== undefined && { audience }),
      ...parseAuthorizationParams(options.authorizationParams ?? {}, 'authorizationParams')
    },
    pushedAuthorizationRequests: bool(options.pushedAuthorizationRequests, false, 'pushedAuthorizationRequests')
  }
}

function parseScope (options: ProviderOptions, offlineAccess: boolean): string {
  const scope = optional(options.scope, 'scope', text) ?? 'openid profile email'
  check(splitWords(scope).includes('openid'), '"scope" must contain openid')
  return offlineAccess ? withOfflineAccess(scope) : scope
}

/** The scope with `offline_access` (OpenID Connect Core 1.0, section 11). */
export function withOfflineAccess (scope: string): string {
  return splitWords(scope).includes('offline_access') ? scope : `${scope} offline_access`
}

/** Whether a text is an absolute URI without a fragment (RFC 8707, section 2). */
export function isResourceIndicator (uri: string): boolean {
  return URL.canParse(uri) && !uri.includes('#')
}

export function parseResource (value: unknown, key: string): string[] {
  const resource = strings([value].flat(), key)
  check(resource.every(isResourceIndicator), `"${key}" must be absolute URIs without a fragment`)
  return resource
}

/** The parameters that an application may add to an authorization request. */
export function parseAuthorizationParams (value: unknown, key: string): Record<string, string> {
  check(isRecord(value), `"${key}" must be an object`)
  for (const [name, entry] of Object.entries(value)) {
    check(!RESERVED_PARAMS.has(name), `"${key}" must not set ${name}`)
    text(entry, `${key}.${name}`)
  }
  const params = value as Record<string, string>
  const { max_age: maxAge } = params
  check(maxAge === undefined || isSeconds(maxAge), `"${key}.max_age" must be a number of seconds`)
  return params
}

/** The names of the parameters that the login route passes on from its query. */
export function parseLoginParams (value: unknown, key: string): readonly string[] {
  const names = strings(value, key)
  for (const name of names) check(name === 'resource' || !RESERVED_PARAMS.has(name), `"${key}" must not allow ${name}`)
  return names
}

/** Whether a parameter is a number of seconds, as `max_age` must be. */
export function isSeconds (value: string): boolean {
  return /^\d{1,10}$/.test(value)
}
