import { OidcError } from '../errors.ts'
import { isLoopbackHttp, isSafeEndpoint, parseUrl } from '../util/url.ts'

// Each check returns the value of an option, or throws FST_OIDC_OPTION with a message that names the option.

/** Throws FST_OIDC_OPTION with this message unless the condition holds. */
export function check (condition: boolean, message: string): asserts condition {
  if (!condition) throw new OidcError('FST_OIDC_OPTION', { message })
}

/** `where` is the path of the options object, such as `session.`. */
export function checkKeys (options: object, known: readonly string[], where: string): void {
  for (const key of Object.keys(options)) {
    check(known.includes(key), `"${where}${key}" is not an option`)
  }
}

/** A filter with these members. An `undefined` value must not mean all sessions or users. */
export function checkFilter (filter: object, known: readonly string[]): void {
  checkKeys(filter, known, 'filter.')
  for (const [key, value] of Object.entries(filter)) text(value, `filter.${key}`)
}

export function optional<T> (value: unknown, key: string, parse: (value: unknown, key: string) => T): T | undefined {
  return value === undefined ? undefined : parse(value, key)
}

/** Throws when the value of an option is that of an unset environment variable. */
export function checkSet (value: unknown, key: string, advice = ''): void {
  const isUnset = value === undefined || value === '' || value === 'undefined'
  const what = value === '' ? 'empty' : 'undefined'
  check(!isUnset, `"${key}" is ${what}: is its environment variable set?${advice}`)
}

/** The first of these options that is there and `undefined`. */
export function findUnset (options: object, keys: readonly string[]): string | undefined {
  return keys.find((key) => key in options && options[key as keyof object] === undefined)
}

export function text (value: unknown, key: string): string {
  const problem = `"${key}" must be a non-empty string`
  checkSet(value, key, ` ${problem}`)
  check(typeof value === 'string', problem)
  return value
}

export function strings (value: unknown, key: string): string[] {
  check(Array.isArray(value), `"${key}" must be an array of strings`)
  return value.map((entry) => text(entry, key))
}

export function bool (value: unknown, fallback: boolean, key: string): boolean {
  check(value === undefined || typeof value === 'boolean', `"${key}" must be true or false`)
  return value ?? fallback
}

export function number (value: unknown, fallback: number, key: string, [min, max]: readonly [number, number]): number {
  if (value === undefined) return fallback
  check(typeof value === 'number' && value >= min && value <= max, `"${key}" must be a number from ${min} to ${max}`)
  return value
}

export function func<T> (value: T, key: string): T {
  check(value === undefined || typeof value === 'function', `"${key}" must be a function`)
  return value
}

export function oneOf<T extends string> (value: unknown, accepted: readonly string[], key: string): T {
  check(accepted.includes(value as string), `"${key}" must be one of ${accepted.join(', ')}`)
  return value as T
}

/** `httpProblem` says why http is not accepted on loopback addresses. `undefined`: it is accepted. */
export function webUrl (value: unknown, key: string, httpProblem: string | undefined): URL {
  const given = text(value, key)
  const url = parseUrl(given)
  check(url !== null, `"${key}" must be an absolute URL, with "https://" at its start`)
  if (url.protocol === 'http:') checkHttp(given, key, httpProblem)
  check(isSafeEndpoint(given, true), `"${key}" must be an https URL without credentials or fragment`)
  return url
}

function checkHttp (value: string, key: string, httpProblem: string | undefined): void {
  check(
    isLoopbackHttp(value),
    `"${key}": http is for loopback addresses only (localhost, *.localhost, 127.0.0.0/8, [::1]), "${key}" must be an ` +
    'https URL'
  )
  check(httpProblem === undefined, `"${key}" must be an https URL: ${httpProblem}`)
}

/** Why http is not accepted of a provider, or of a trusted issuer, whose own address is https. */
export const HTTPS_ISSUER = 'http is accepted only of an issuer that is itself http on a loopback address'

/** Returns the issuer exactly as it was given: issuers are compared as text. */
export function issuerUrl (value: unknown, key: string, httpProblem: string | undefined): string {
  const url = webUrl(value, key, httpProblem)
  check(url.search === '', `"${key}" must not have a query`)
  return value as string
}

/** Returns the path with a slash at its start and none at its end. */
export function path (value: unknown, key: string): string {
  const route = text(value, key).replace(/^\/?/, '/').replace(/\/$/, '')
  check(/^(?:\/[\w.~-]+)*$/.test(route), `"${key}" must be a plain path`)
  return route
}
