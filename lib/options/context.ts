import { parseUrl } from '../util/url.ts'
import { bool, check, text, webUrl } from './check.ts'
import type { OidcOptions } from '../../types/options.ts'

/** Facts about the application that the checks of other options depend on. */
export interface ParseContext {
  /** Without a trailing slash. */
  baseUrl: string
  origin: string
  /** Whether browsers reach the application over https. */
  secure: boolean
  allowInsecureLoopback: boolean
}

export function parseContext (options: OidcOptions): ParseContext {
  const allowInsecureLoopback = bool(options.allowInsecureLoopback, false, 'allowInsecureLoopback')
  check(
    !allowInsecureLoopback || process.env['NODE_ENV'] !== 'production',
    '"allowInsecureLoopback" must not be set in production'
  )
  const base = webUrl(options.baseUrl, 'baseUrl', allowInsecureLoopback)
  check(base.search === '', '"baseUrl" must not have a query')
  return {
    baseUrl: base.href.replace(/\/$/, ''),
    origin: base.origin,
    secure: base.protocol === 'https:',
    allowInsecureLoopback
  }
}

/** An address of the application: a URL on its origin, or a path relative to `baseUrl`. */
export function ownUrl (value: unknown, key: string, { baseUrl, origin }: ParseContext): string {
  const url = parseUrl(text(value, key), `${baseUrl}/`)
  check(url?.origin === origin, `"${key}" must be below the origin of "baseUrl"`)
  return url.href
}
