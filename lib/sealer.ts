import { hkdfSync } from 'node:crypto'
import secureSession from '@fastify/secure-session'
import type { FastifyInstance } from 'fastify'
import type { Settings } from './options/settings.ts'

/** What a sealed value is for; each purpose has a key of its own, so that none passes for another. */
export type Purpose = 'session' | 'tokens' | 'login' | 'logout' | 'store' | 'nonce' | 'code' | 'refresh' | 'device'

export interface CookieAttributes {
  /** In seconds; 0 removes the cookie. */
  maxAge: number
  sameSite: 'lax' | 'strict' | 'none'
}

export interface Sealer {
  /** Encrypts and authenticates a JSON value; the result is of characters that a cookie takes as they are. */
  seal: (purpose: Purpose, content: unknown) => string
  /** The content of a sealed value, or `null` when it is not exactly what `seal` made with one of the keys. */
  open: (purpose: Purpose, value: string) => { content: unknown, rotated: boolean } | null
  /** A Set-Cookie value. */
  setCookie: (name: string, value: string, attributes: CookieAttributes) => string
}

const PURPOSES: readonly Purpose[] = [
  'session', 'tokens', 'login', 'logout', 'store', 'nonce', 'code', 'refresh', 'device'
]
const NONCE_LENGTH = 32 // characters behind the dot

/**
 * @fastify/secure-session as the codec, in a scope of its own: the application's use of it, and of @fastify/cookie,
 * is not disturbed, and no request but those of the plugin pays for it.
 */
export async function createSealer (app: FastifyInstance, settings: Settings): Promise<Sealer> {
  let sealer: Sealer | undefined
  await app.register(async (scope) => {
    await scope.register(secureSession, PURPOSES.map((purpose) => ({
      sessionName: `oidc.${purpose}`,
      key: settings.session.keys.map((key) => deriveKey(key, purpose, settings)),
      expiry: Number.MAX_SAFE_INTEGER // the lifetimes are inside what is sealed
    })))
    sealer = sealerOf(scope, settings.session.secure)
  })
  return sealer as unknown as Sealer
}

function sealerOf (scope: FastifyInstance, secure: boolean): Sealer {
  return {
    seal: (purpose, content) =>
      scope.encodeSecureSession(scope.createSecureSession({ content }), `oidc.${purpose}`).replace(';', '.'),
    open: (purpose, value) => open(scope, purpose, value),
    setCookie: (name, value, { maxAge, sameSite }) => scope.serializeCookie(name, value, {
      path: '/', httpOnly: true, secure, sameSite, maxAge, encode: (sealed) => sealed
    })
  }
}

// A key per purpose, and per registration: what another one sealed with the same secret is worth nothing here.
function deriveKey (key: Buffer, purpose: Purpose, { session, prefix, baseUrl }: Settings): Buffer {
  const context = ['fastify-oidc 2', purpose, session.cookieName, baseUrl, prefix]
  return Buffer.from(hkdfSync('sha256', key, '', context.join('\n'), 32))
}

function open (scope: FastifyInstance, purpose: Purpose, value: string): ReturnType<Sealer['open']> {
  const dot = value.length - NONCE_LENGTH - 1
  if (value[dot] !== '.' || !isCanonical(value.slice(0, dot)) || !isCanonical(value.slice(dot + 1))) return null
  const session = scope.decodeSecureSession(value.replace('.', ';'), quiet, `oidc.${purpose}`)
  return session === null ? null : { content: (session as { content?: unknown }).content, rotated: session.changed }
}

// One content has one spelling: base64 with foreign characters, or stray bits at its end, decodes to the same bytes.
function isCanonical (base64: string): boolean {
  if (base64.length > SCRATCH.length) return Buffer.from(base64, 'base64').toString('base64') === base64
  return SCRATCH.toString('base64', 0, SCRATCH.write(base64, 'base64')) === base64
}

// What is opened all the time need not leave garbage.
const SCRATCH = Buffer.alloc(8192)

const quiet = { debug () {} } as unknown as FastifyInstance['log']
