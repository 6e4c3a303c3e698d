import { hkdfSync } from 'node:crypto'
import { sha256 } from '../util/crypto.ts'
import { isRecord } from '../util/json.ts'
import { parseUrl } from '../util/url.ts'
import { bool, check, checkKeys, checkSet, findUnset, number, oneOf, optional, strings, text } from './check.ts'
import type { SessionKey, SessionOptions } from '../../types/options.ts'

/** Every option of the session, checked and complete. Times in seconds. */
export interface SessionSettings {
  /** The first one seals, all of them open. */
  keys: Buffer[]
  cookieName: string
  /**
   * The cookie name of version 0.1.0 for the same options. Keys and names in the store are derived from it, and a
   * browser that still has cookies of this name keeps it.
   */
  formerName: string
  secure: boolean
  maxAge: number
  idleTimeout: number
  sameSite: 'lax' | 'strict' | 'none'
  tokens: ReadonlySet<string>
  trustedOrigins: ReadonlySet<string>
  /** Whether the store holds the sessions. */
  inStore: boolean
  recheckAfter: number
}

export interface SessionContext {
  /** Without a trailing slash. */
  baseUrl: string
  /** Whether browsers reach the application over https. */
  secure: boolean
  /** The path below which all routes are. */
  prefix: string
  hasStore: boolean
}

const OPTIONS = [
  'key', 'secret', 'cookieName', 'maxAge', 'idleTimeout', 'sameSite', 'tokens', 'trustedOrigins', 'store',
  'recheckAfter'
]
const SAME_SITES = ['lax', 'strict', 'none']
const TOKENS = ['access_token', 'refresh_token', 'id_token']
const HOUR = 3600
const MAX_COOKIE_AGE = 400 * 86_400 // the longest that browsers keep a cookie

/** Throws FST_OIDC_OPTION. */
export function parseSession (options: SessionOptions, context: SessionContext): SessionSettings {
  check(isRecord(options), '"session" must be an object with a "key" or a "secret"')
  checkKeys(options, OPTIONS, 'session.')
  const names = parseCookieNames(options, context)
  const maxAge = number(options.maxAge, 8 * HOUR, 'session.maxAge', [1, MAX_COOKIE_AGE])
  check(Number.isInteger(maxAge), '"session.maxAge" must be whole seconds')
  const sameSite = parseSameSite(options, context)
  check(options.store !== true || context.hasStore, '"session.store" needs a "store"')
  const idleTimeout = number(options.idleTimeout, HOUR, 'session.idleTimeout', [1, MAX_COOKIE_AGE])
  const tokens = strings(options.tokens ?? TOKENS, 'session.tokens')
  const trustedOrigins = strings(options.trustedOrigins ?? [], 'session.trustedOrigins')
  return {
    keys: parseKeys(options),
    ...names,
    secure: context.secure,
    maxAge,
    idleTimeout: Math.min(idleTimeout, maxAge),
    sameSite,
    tokens: new Set(tokens.map((name) => oneOf(name, TOKENS, 'session.tokens'))),
    trustedOrigins: new Set(trustedOrigins.map(parseOrigin)),
    inStore: bool(options.store, false, 'session.store'),
    recheckAfter: number(options.recheckAfter, 0, 'session.recheckAfter', [0, HOUR])
  }
}

function parseCookieNames (
  options: SessionOptions,
  context: SessionContext
): Pick<SessionSettings, 'cookieName' | 'formerName'> {
  const chosen = optional(options.cookieName, 'session.cookieName', text)
  check(
    chosen === undefined || /^[\w.-]{1,40}$/.test(chosen),
    '"session.cookieName" must consist of letters, digits, ".", "_" and "-"'
  )
  const prefix = context.secure ? '__Host-' : ''
  return {
    cookieName: prefix + (chosen ?? defaultCookieName(context)),
    formerName: prefix + (chosen ?? nameOfPath('oidc', context.prefix))
  }
}

// Applications on one host must not overwrite each other's cookies: browsers send them to all paths and all ports.
function defaultCookieName ({ baseUrl, prefix }: SessionContext): string {
  const { port, pathname } = new URL(baseUrl)
  const base = port === '' ? 'oidc' : `oidc-${port}`
  const path = pathname.replace(/\/$/, '') + prefix
  // `/a.b` and `/a/b` must differ.
  return /[^\w/-]/.test(path) ? hashedName(base + path) : nameOfPath(base, path)
}

function nameOfPath (base: string, path: string): string {
  const name = `${base}${path.replace(/\/auth$/, '').replace(/[^\w-]+/g, '.')}`
  return name.length <= 40 ? name : hashedName(base === 'oidc' ? path : base + path)
}

function hashedName (text: string): string {
  return `oidc.${sha256(text, 'hex').slice(0, 32)}`
}

function parseSameSite (options: SessionOptions, { secure }: SessionContext): SessionSettings['sameSite'] {
  const sameSite = oneOf<SessionSettings['sameSite']>(options.sameSite ?? 'lax', SAME_SITES, 'session.sameSite')
  check(sameSite !== 'none' || secure, '"session.sameSite" none needs an https "baseUrl"')
  return sameSite
}

function parseKeys (options: SessionOptions): Buffer[] {
  const { key, secret } = options
  const unset = key === undefined && secret === undefined ? findUnset(options, ['key', 'secret']) : undefined
  if (unset !== undefined) checkSet(undefined, `session.${unset}`)
  check((key === undefined) !== (secret === undefined), '"session" must have a "key" or a "secret"')
  const keys = key === undefined ? [secret].flat().map(deriveKey) : (Array.isArray(key) ? key : [key]).map(parseKey)
  check(keys.length > 0, '"session.key" must not be empty')
  return keys
}

/** How many different bytes a key must have. A random one has about 30. */
const MIN_DIFFERENT = 16

function parseKey (key: SessionKey): Buffer {
  checkSet(key, 'session.key')
  const bytes = typeof key === 'string' ? decodeKey(key) : Buffer.from(key)
  check(bytes.length === 32, '"session.key" must be 32 bytes, as base64, base64url or bytes')
  check(
    new Set(bytes).size >= MIN_DIFFERENT,
    '"session.key" must be 32 bytes that are random: for example the output of "openssl rand -base64 32"'
  )
  return bytes
}

function decodeKey (text: string): Buffer {
  const bytes = Buffer.from(text, 'base64')
  // Node.js decodes any text. Only a text that encodes these bytes is a key.
  const isCanonical = [bytes.toString('base64'), bytes.toString('base64url')]
    .some((encoded) => encoded.replace(/=+$/, '') === text.replace(/=$/, ''))
  check(
    isCanonical && !looksLikeWords(text),
    '"session.key" must be 32 bytes as base64 or base64url, such as the output of "openssl rand -base64 32"; ' +
    '"session.secret" takes a passphrase of at least 32 bytes'
  )
  return bytes
}

/** Whether a text has only letters, and few of one case. Of a billion random keys, one has. */
function looksLikeWords (text: string): boolean {
  const count = (pattern: RegExp): number => text.match(pattern)?.length ?? 0
  return /^[a-z]+=?$/i.test(text) && Math.min(count(/[a-z]/g), count(/[A-Z]/g)) < 8
}

function deriveKey (secret: unknown): Buffer {
  checkSet(secret, 'session.secret')
  check(typeof secret === 'string' && Buffer.byteLength(secret) >= 32, '"session.secret" must be at least 32 bytes')
  return Buffer.from(hkdfSync('sha256', secret, '', 'fastify-oidc session.secret', 32))
}

function parseOrigin (value: string): string {
  const isOrigin = parseUrl(value)?.origin === value
  check(isOrigin, '"session.trustedOrigins" must be origins, such as https://www.example.com')
  return value
}
