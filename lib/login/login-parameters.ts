import { check, checkKeys, optional, strings, text } from '../options/check.ts'
import { isRecord } from '../util/json.ts'
import { OidcError } from '../errors.ts'
import { parseMaxAge } from '../options/constraints.ts'
import { isSeconds, parseAuthorizationParams, parseResource } from '../options/provider.ts'
import type { LoginRequest } from './login.ts'
import type { Params } from '../http/params.ts'
import type { LoginOptions } from '../../types/options.ts'

/** What a login asks for, whoever begins it. */
type LoginParameters = Pick<LoginRequest, 'maxAge' | 'acrValues' | 'resource' | 'authorizationParams'>

const LOGIN_OPTIONS = [
  'provider', 'returnTo', 'maxAge', 'acrValues', 'prompt', 'loginHint', 'uiLocales', 'claims', 'audience',
  'resource', 'authorizationParams'
]

/** The options of `app.oidc.login`. Throws FST_OIDC_OPTION. */
export function parseLoginOptions (options: LoginOptions): LoginParameters {
  checkKeys(options, LOGIN_OPTIONS, '')
  const { prompt, loginHint, uiLocales, claims, audience, authorizationParams = {} } = options
  const named = {
    prompt,
    login_hint: loginHint,
    ui_locales: uiLocales,
    claims: optional(claims, 'claims', toJson),
    audience
  }
  return {
    maxAge: parseMaxAge(options.maxAge),
    acrValues: optional(options.acrValues, 'acrValues', strings),
    resource: optional(options.resource, 'resource', parseResource),
    authorizationParams: {
      ...parseAuthorizationParams(authorizationParams, 'authorizationParams'),
      ...Object.fromEntries(
        Object.entries(named)
          .filter(([, value]) => value !== undefined)
          .map(([name, value]) => [name, text(value, name)])
      )
    }
  }
}

function toJson (value: unknown, key: string): string {
  check(isRecord(value), `"${key}" must be an object`)
  return JSON.stringify(value)
}

/**
 * What the query of the login route asks for, as far as that is allowed (security.md S6). Throws
 * FST_OIDC_PARAMETER.
 */
export function parseLoginQuery (params: Params, allowed: readonly string[]): LoginParameters {
  const {
    max_age: maxAge,
    resource,
    ...authorizationParams
  } = Object.fromEntries(allowedParams(params, allowed)) as Record<string, string | undefined>
  require('max_age', maxAge === undefined || isSeconds(maxAge))
  require('resource', resource === undefined || (URL.canParse(resource) && !resource.includes('#')))
  require('claims', authorizationParams['claims'] === undefined || isJsonObject(authorizationParams['claims']))
  return {
    maxAge: maxAge === undefined ? undefined : Number(maxAge),
    resource: resource === undefined ? undefined : [resource],
    authorizationParams: authorizationParams as Record<string, string>
  }
}

/** The parameters of a login that the query may hand on. */
export function allowedParams (params: Params, allowed: readonly string[]): Array<[string, string]> {
  return [...params].filter(([name, value]) => allowed.includes(name) && value !== '')
}

function require (name: string, condition: boolean): void {
  if (!condition) throw new OidcError('FST_OIDC_PARAMETER', { detail: name })
}

function isJsonObject (text: string): boolean {
  try {
    return isRecord(JSON.parse(text))
  } catch {
    return false
  }
}
