import { limited } from '../util/at-most.ts'
import { parseUrl } from '../util/url.ts'
import { bool, check, func, number, text, webUrl } from './check.ts'
import type { OidcOptions } from '../../types/options.ts'

/** Facts about the application that the checks of other options depend on. */
export interface ParseContext {
  /** Without a trailing slash. */
  baseUrl: string
  origin: string
  /** Whether browsers reach the application over https. */
  secure: boolean
  /** Why http is not accepted on loopback addresses. `undefined`: it is accepted. */
  httpProblem: string | undefined
  hook: ParseHook
}

/** Checks a function of the application that the plugin calls, and limits its time by `hookTimeout`. */
export type ParseHook = <F extends (...args: never[]) => unknown>(hook: F | undefined, key: string) => F | undefined

const IN_PRODUCTION = 'NODE_ENV is "production". If http on this loopback address is meant, set ' +
  '"allowInsecureLoopback: true"'
const BESIDE_HTTPS = 'http is for development, where "baseUrl" is http on a loopback address too; outside ' +
  'production, "allowInsecureLoopback: true" allows http beside an https "baseUrl"'

/**
 * A `baseUrl` that is http on a loopback address is development. In production the operator must say that it is meant,
 * and beside an https `baseUrl` it never is.
 */
export function parseContext (options: OidcOptions): ParseContext {
  const isAllowed = bool(options.allowInsecureLoopback, false, 'allowInsecureLoopback')
  const isProduction = process.env['NODE_ENV'] === 'production'
  const base = webUrl(options.baseUrl, 'baseUrl', isProduction && !isAllowed ? IN_PRODUCTION : undefined)
  check(base.search === '', '"baseUrl" must not have a query')
  const secure = base.protocol === 'https:'
  check(
    !secure || !isAllowed || !isProduction,
    '"allowInsecureLoopback" must not be set in production, unless "baseUrl" is http on a loopback address'
  )
  return {
    baseUrl: base.href.replace(/\/$/, ''),
    origin: base.origin,
    secure,
    httpProblem: secure && !isAllowed ? BESIDE_HTTPS : undefined,
    hook: createParseHook(options)
  }
}

function createParseHook (options: OidcOptions): ParseHook {
  const timeout = number(options.hookTimeout, 30, 'hookTimeout', [0.001, 600])
  return (hook, key) => hook === undefined ? undefined : limited(func(hook, key), timeout, 'hookTimeout')
}

/** An address of the application: a URL on its origin, or a path relative to `baseUrl`. */
export function ownUrl (value: unknown, key: string, { baseUrl, origin }: ParseContext): string {
  const url = parseUrl(text(value, key), `${baseUrl}/`)
  check(url?.origin === origin, `"${key}" must be below the origin of "baseUrl"`)
  return url.href
}
