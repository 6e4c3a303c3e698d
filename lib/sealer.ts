import { createHmac, hkdfSync } from 'node:crypto'
import secureSession from '@fastify/secure-session'
import type { FastifyInstance } from 'fastify'
import type { Settings } from './options/settings.ts'

/** What a sealed value is for. Each purpose has its own key, so that no value can be used for another purpose. */
export type Purpose = 'session' | 'tokens' | 'login' | 'logout' | 'store' | 'nonce' | 'code' | 'refresh' | 'device'

export interface CookieAttributes {
  /** In seconds; 0 removes the cookie. */
  maxAge: number
  sameSite: 'lax' | 'strict' | 'none'
}

export interface Sealer {
  /** Encrypts and authenticates a JSON value. The result needs no encoding in a cookie. */
  seal: (purpose: Purpose, content: unknown) => string
  /** Opens a sealed value. Returns `null` unless `seal` made exactly this value with one of the keys. */
  open: (purpose: Purpose, value: string) => Opened | null
  /** Keyed hashes of a text (HMAC-SHA-256), one for each key, that of the newest key first. */
  digests: (text: string) => Buffer[]
  /** A Set-Cookie value. */
  setCookie: (name: string, value: string, attributes: CookieAttributes) => string
}

export interface Opened {
  content: unknown
  /** Whether an older key sealed the value. */
  rotated: boolean
}

const PURPOSES: readonly Purpose[] = [
  'session', 'tokens', 'login', 'logout', 'store', 'nonce', 'code', 'refresh', 'device'
]
const NONCE_LENGTH = 32 // characters after the dot

/**
 * Uses @fastify/secure-session only to seal and open. It is registered in its own scope, so that the application can
 * also use @fastify/secure-session and @fastify/cookie, and so that their hooks do not run for every request.
 */
export async function createSealer (app: FastifyInstance, settings: Settings): Promise<Sealer> {
  let sealer: Sealer | undefined
  await app.register(async (scope) => {
    const { keys, secure } = settings.session
    const keysOf = new Map(PURPOSES.map((purpose) => [purpose, keys.map((key) => deriveKey(key, purpose, settings))]))
    await scope.register(secureSession, PURPOSES.map((purpose) => ({
      sessionName: `oidc.${purpose}`,
      key: keysOf.get(purpose) as Buffer[],
      expiry: Number.MAX_SAFE_INTEGER // the sealed content has its own lifetime
    })))
    sealer = sealerOf(scope, secure, (keysOf.get('login') as Buffer[]).map((key) => digest(key, 'digest')))
  })
  return sealer as unknown as Sealer
}

// One key per purpose and registration: a value that another registration sealed with the same secret does not open.
function deriveKey (key: Buffer, purpose: Purpose, { session, prefix, baseUrl }: Settings): Buffer {
  const context = ['fastify-oidc 2', purpose, session.formerName, baseUrl, prefix]
  return Buffer.from(hkdfSync('sha256', key, '', context.join('\n'), 32))
}

function digest (key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}

function sealerOf (scope: FastifyInstance, secure: boolean, digestKeys: Buffer[]): Sealer {
  return {
    seal: (purpose, content) =>
      scope.encodeSecureSession(scope.createSecureSession({ content }), `oidc.${purpose}`).replace(';', '.'),
    open: (purpose, value) => open(scope, purpose, value),
    digests: (text) => digestKeys.map((key) => digest(key, text)),
    setCookie: (name, value, { maxAge, sameSite }) => scope.serializeCookie(name, value, {
      path: '/', httpOnly: true, secure, sameSite, maxAge, encode: (sealed) => sealed
    })
  }
}

function open (scope: FastifyInstance, purpose: Purpose, value: string): Opened | null {
  const dot = value.length - NONCE_LENGTH - 1
  if (value[dot] !== '.' || !isCanonical(value.slice(0, dot)) || !isCanonical(value.slice(dot + 1))) return null
  const session = scope.decodeSecureSession(value.replace('.', ';'), quiet, `oidc.${purpose}`)
  return session === null ? null : { content: (session as { content?: unknown }).content, rotated: session.changed }
}

// Different texts decode to the same bytes if they contain characters that are not base64, or extra bits at the
// end. Only one of them is accepted.
function isCanonical (base64: string): boolean {
  if (base64.length > scratch.length) return Buffer.from(base64, 'base64').toString('base64') === base64
  return scratch.toString('base64', 0, scratch.write(base64, 'base64')) === base64
}

// Requests open values all the time: one buffer for all of them leaves no garbage.
const scratch = Buffer.alloc(8192)

// A cookie that does not open is normal, so it is not logged.
const quiet = { debug () {} } as unknown as FastifyInstance['log']
