import { OidcError } from '../errors.ts'
import {
  isResourceIndicator, isSeconds, parseAuthorizationParams, parseResource
} from '../options/authorization-params.ts'
import { check, checkKeys, optional, strings, text } from '../options/check.ts'
import { parseMaxAge } from '../options/constraints.ts'
import { isRecord, parseJson, toJsonText } from '../util/json.ts'
import { MAX_APP_STATE } from './pending-logins.ts'
import type { Params } from '../http/params.ts'
import type { LoginRequest } from './login.ts'
import type { LoginOptions } from '../../types/options.ts'

/** What the authorization request of a login asks for. */
type LoginParameters = Pick<LoginRequest, 'maxAge' | 'acrValues' | 'resource' | 'authorizationParams' | 'appState'>

const LOGIN_OPTIONS = [
  'provider', 'returnTo', 'maxAge', 'acrValues', 'prompt', 'loginHint', 'uiLocales', 'claims', 'audience',
  'resource', 'authorizationParams', 'appState'
]

/** The options of `app.oidc.login`. Throws FST_OIDC_OPTION. */
export function parseLoginOptions (options: LoginOptions): LoginParameters {
  checkKeys(options, LOGIN_OPTIONS, '')
  const { authorizationParams = {} } = options
  return {
    maxAge: parseMaxAge(options.maxAge),
    acrValues: optional(options.acrValues, 'acrValues', strings),
    resource: optional(options.resource, 'resource', parseResource),
    appState: optional(options.appState, 'appState', parseAppState),
    authorizationParams: {
      ...parseAuthorizationParams(authorizationParams, 'authorizationParams'),
      ...namedParams(options)
    }
  }
}

/** The parameters with an option of their own, under their names in the protocol. */
function namedParams ({ prompt, loginHint, uiLocales, claims, audience }: LoginOptions): Record<string, string> {
  const params = {
    prompt,
    login_hint: loginHint,
    ui_locales: uiLocales,
    claims: optional(claims, 'claims', toJson),
    audience
  }
  const given = Object.entries(params).filter(([, value]) => value !== undefined)
  return Object.fromEntries(given.map(([name, value]) => [name, text(value, name)]))
}

// It is in the `state`: what is larger belongs into a store of the application.
function parseAppState (value: unknown, key: string): LoginRequest['appState'] {
  const json = toJsonText(value)
  check(json !== undefined, `"${key}" must be a JSON value`)
  const bytes = Buffer.byteLength(json)
  check(bytes <= MAX_APP_STATE, `"${key}" has ${bytes} bytes as JSON, at most ${MAX_APP_STATE} are allowed`)
  return { value: JSON.parse(json) }
}

function toJson (value: unknown, key: string): string {
  check(isRecord(value), `"${key}" must be an object`)
  return JSON.stringify(value)
}

/**
 * The parameters of a login in the query of the login route, if `loginParams` allows them: a link of
 * another site must not choose what is asked of the provider.
 * Throws FST_OIDC_PARAMETER.
 */
export function parseLoginQuery (params: Params, allowed: readonly string[]): LoginParameters {
  const named = Object.fromEntries(allowedParams(params, allowed)) as Record<string, string | undefined>
  const { max_age: maxAge, resource, ...authorizationParams } = named
  const { claims } = authorizationParams
  checkParam('max_age', maxAge === undefined || isSeconds(maxAge))
  checkParam('resource', resource === undefined || isResourceIndicator(resource))
  checkParam('claims', claims === undefined || isRecord(parseJson(claims)))
  return {
    maxAge: maxAge === undefined ? undefined : Number(maxAge),
    resource: resource === undefined ? undefined : [resource],
    authorizationParams: authorizationParams as Record<string, string>
  }
}

/** The parameters that `loginParams` allows in the query of a login. */
export function allowedParams (params: Params, allowed: readonly string[]): Array<[string, string]> {
  return allowed.flatMap((name): Array<[string, string]> => {
    const value = params.get(name)
    return value === undefined || value === '' ? [] : [[name, value]]
  })
}

function checkParam (name: string, condition: boolean): void {
  if (!condition) throw new OidcError('FST_OIDC_PARAMETER', { detail: name })
}
