import { hkdfSync } from 'node:crypto'
import type { SessionKey, SessionOptions } from '../../types/options.ts'
import { bool, check, text, strings, optional, oneOf, number, checkKeys } from './check.ts'
import { parseUrl } from '../util/url.ts'
import { isRecord } from '../util/json.ts'

export interface SessionSettings {
  /** The first seals, all open. */
  keys: Buffer[]
  cookieName: string
  secure: boolean
  maxAge: number
  idleTimeout: number
  sameSite: 'lax' | 'strict' | 'none'
  tokens: ReadonlySet<string>
  trustedOrigins: ReadonlySet<string>
  /** Whether sessions are in the store. */
  inStore: boolean
  /** In seconds. */
  recheckAfter: number
}

export const SESSION_OPTIONS = [
  'key', 'secret', 'cookieName', 'maxAge', 'idleTimeout', 'sameSite', 'tokens', 'trustedOrigins', 'store',
  'recheckAfter'
]
export const TOKENS = ['access_token', 'refresh_token', 'id_token'] as const
export function parseKey (key: SessionKey): Buffer {
  const bytes = typeof key === 'string' ? Buffer.from(key, 'base64') : Buffer.from(key)
  check(bytes.length === 32, '"session.key" must be 32 bytes, as base64 or bytes')
  return bytes
}

export function deriveKey (secret: unknown): Buffer {
  check(typeof secret === 'string' && Buffer.byteLength(secret) >= 32, '"session.secret" must be at least 32 bytes')
  return Buffer.from(hkdfSync('sha256', secret, '', 'fastify-oidc session.secret', 32))
}

export function parseKeys ({ key, secret }: SessionOptions): Buffer[] {
  check((key === undefined) !== (secret === undefined), '"session" must have a "key" or a "secret"')
  const keys = key !== undefined
    ? (Array.isArray(key) ? key : [key]).map(parseKey)
    : [secret].flat().map(deriveKey)
  check(keys.length > 0, '"session.key" must not be empty')
  return keys
}

export function parseOrigin (value: string): string {
  check(parseUrl(value)?.origin === value, '"session.trustedOrigins" must be origins, such as https://www.example.com')
  return value
}

export function parseSession (
  options: SessionOptions,
  secure: boolean,
  usualName: string,
  hasStore: boolean): SessionSettings {
  check(isRecord(options), '"session" must be an object with a "key" or a "secret"')
  checkKeys(options, SESSION_OPTIONS, 'session.')
  const cookieName = optional(options.cookieName, 'session.cookieName', text) ?? usualName
  check(/^[\w.-]{1,40}$/.test(cookieName), '"session.cookieName" must be of letters, digits, ".", "_" and "-"')
  const maxAge = number(options.maxAge, 28800, 'session.maxAge', 1, 400 * 86400)
  check(Number.isInteger(maxAge), '"session.maxAge" must be whole seconds')
  const sameSite = oneOf<SessionSettings['sameSite']>(
    options.sameSite ?? 'lax',
    ['lax', 'strict', 'none'],
    'session.sameSite'
  )
  check(sameSite !== 'none' || secure, '"session.sameSite" none needs an https "baseUrl"')
  check(options.store !== true || hasStore, '"session.store" needs a "store"')
  return {
    keys: parseKeys(options),
    cookieName: secure ? `__Host-${cookieName}` : cookieName,
    secure,
    maxAge,
    idleTimeout: Math.min(number(options.idleTimeout, 3600, 'session.idleTimeout', 1, 400 * 86400), maxAge),
    sameSite,
    tokens: new Set(
      strings(options.tokens ?? TOKENS, 'session.tokens').map((name) => oneOf(name, TOKENS, 'session.tokens'))
    ),
    trustedOrigins: new Set(strings(options.trustedOrigins ?? [], 'session.trustedOrigins').map(parseOrigin)),
    inStore: bool(options.store, false, 'session.store'),
    recheckAfter: number(options.recheckAfter, 0, 'session.recheckAfter', 0, 3600)
  }
}
