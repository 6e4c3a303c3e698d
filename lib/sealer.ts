import { createHmac, createSecretKey, hkdfSync } from 'node:crypto'
import { NONCE_LENGTH, bySodium, createSecretbox, inJavaScript } from './util/secretbox.ts'
import { createSmallBox } from './util/small-box.ts'
import { now } from './util/time.ts'
import type { KeyObject } from 'node:crypto'
import type SecureSession from '@fastify/secure-session'
import type { FastifyInstance } from 'fastify'
import type { Settings } from './options/settings.ts'
import type { Secretbox, Sodium } from './util/secretbox.ts'
import type { SmallBox } from './util/small-box.ts'

/** What a sealed value is for. Each purpose has its own key, so that no value can be used for another purpose. */
export type Purpose =
  'session' | 'tokens' | 'login' | 'logout' | 'store' | 'nonce' | 'code' | 'refresh' | 'device' | 'step-up' | 'user' |
  'token-bytes'

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
  /** Encrypts and authenticates bytes. The result has no dot, so a value of `seal` is never one of these. */
  sealBytes: (purpose: Purpose, bytes: Uint8Array) => string
  /** Opens a value of `sealBytes`. Returns `null` unless it made exactly this value with one of the keys. */
  openBytes: (purpose: Purpose, value: string) => Buffer | null
  /** For values that stay in this process. */
  small: SmallBox
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
  'session', 'tokens', 'login', 'logout', 'store', 'nonce', 'code', 'refresh', 'device', 'step-up', 'user',
  'token-bytes'
]
const NONCE_TEXT_LENGTH = 32 // characters after the dot

interface Addon {
  secureSession: typeof SecureSession
  sodium: Sodium
}

/** Loads @fastify/secure-session. Its addon has no build for each platform, and bundles do not contain it. */
async function loadAddon (): Promise<Addon> {
  const { default: secureSession } = await import('@fastify/secure-session')
  // @ts-expect-error The package has no types.
  const { default: sodium } = await import('sodium-native')
  return { secureSession, sodium }
}

/**
 * Seals with @fastify/secure-session, and in JavaScript where that cannot be loaded: each opens what the other has
 * sealed. All this is in a scope of its own, so that the application can also use @fastify/secure-session and
 * @fastify/cookie, and so that their hooks do not run for every request.
 */
export async function createSealer (
  app: FastifyInstance,
  settings: Settings,
  load = loadAddon
): Promise<Sealer> {
  const keys = new Map(PURPOSES.map((purpose) => [
    purpose, settings.session.keys.map((key) => deriveKey(key, purpose, settings))
  ]))
  const addon = await load().catch(({ message }: Error) => {
    app.log.warn({ reason: message }, 'the addon of sodium-native cannot be loaded: cookies are encrypted in JavaScript')
  })
  let scope = app
  // Fastify loads this scope at once, or after `app.after` when the application becomes ready.
  await app.register(async (child) => {
    scope = child
    if (addon === undefined) child.register(import('@fastify/cookie'))
    else child.register(addon.secureSession, [...keys].map(sessionOf))
  })
  const digestKeys = (keys.get('login') as Buffer[]).map((key) => createSecretKey(digest(key, 'digest')))
  const cipher = addon === undefined ? await inJavaScript() : bySodium(addon.sodium)
  const boxes = new Map([...keys].map(([purpose, keys]) => [purpose, createSecretbox(keys, cipher)]))
  const boxOf = (purpose: Purpose): Secretbox => boxes.get(purpose) as Secretbox
  const texts = addon === undefined ? textsInJavaScript(boxOf) : textsOf(() => scope)
  return {
    seal: texts.seal,
    open: (purpose, value) => isWellFormed(value) ? texts.open(purpose, value) : null,

    small: createSmallBox(settings.session.keys.map((key) => deriveKey(key, 'small', settings))),

    sealBytes (purpose, bytes) {
      const { nonce, encrypted } = boxOf(purpose).seal(bytes)
      return Buffer.concat([nonce, encrypted]).toString('base64')
    },

    openBytes (purpose, value) {
      if (!isCanonical(value)) return null
      const bytes = Buffer.from(value, 'base64')
      const box = { nonce: bytes.subarray(0, NONCE_LENGTH), encrypted: bytes.subarray(NONCE_LENGTH) }
      return boxOf(purpose).open(box)?.bytes ?? null
    },

    digests: (text) => digestKeys.map((key) => digest(key, text)),
    setCookie: (name, value, { maxAge, sameSite }) => scope.serializeCookie(name, value, {
      path: '/', httpOnly: true, secure: settings.session.secure, sameSite, maxAge, encode: (sealed) => sealed
    })
  }
}

function digest (key: Buffer | KeyObject, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}

// One key per purpose and registration: a value that another registration sealed with the same secret does not open.
function deriveKey (key: Buffer, purpose: Purpose | 'small', { session, prefix, baseUrl }: Settings): Buffer {
  const context = ['fastify-oidc 2', purpose, session.formerName, baseUrl, prefix]
  return Buffer.from(hkdfSync('sha256', key, '', context.join('\n'), 32))
}

function sessionOf ([purpose, key]: [Purpose, Buffer[]]) {
  // The sealed content has its own lifetime.
  return { sessionName: `oidc.${purpose}`, key, expiry: Number.MAX_SAFE_INTEGER }
}

type Texts = Pick<Sealer, 'seal' | 'open'>

function textsOf (scopeOf: () => FastifyInstance): Texts {
  return {
    seal (purpose, content) {
      const scope = scopeOf()
      return scope.encodeSecureSession(scope.createSecureSession({ content }), `oidc.${purpose}`).replace(';', '.')
    },

    open (purpose, value) {
      const session = scopeOf().decodeSecureSession(value.replace('.', ';'), quiet, `oidc.${purpose}`)
      return session === null ? null : { content: (session as Pick<Envelope, 'content'>).content, rotated: session.changed }
    }
  }
}

/** What @fastify/secure-session seals: the content, and when it was sealed, in seconds since the epoch. */
interface Envelope {
  content?: unknown
  __ts: number
}

function textsInJavaScript (boxOf: (purpose: Purpose) => Secretbox): Texts {
  return {
    seal (purpose, content) {
      const envelope: Envelope = { content, __ts: now() }
      const { nonce, encrypted } = boxOf(purpose).seal(Buffer.from(JSON.stringify(envelope)))
      return `${encrypted.toString('base64')}.${nonce.toString('base64')}`
    },

    open (purpose, value) {
      const [encrypted, nonce] = value.split('.').map((part) => Buffer.from(part, 'base64')) as [Buffer, Buffer]
      const opened = boxOf(purpose).open({ nonce, encrypted })
      if (opened === null) return null
      return { content: (JSON.parse(opened.bytes.toString()) as Envelope).content, rotated: opened.rotated }
    }
  }
}

function isWellFormed (value: string): boolean {
  const dot = value.length - NONCE_TEXT_LENGTH - 1
  return value[dot] === '.' && isCanonical(value.slice(0, dot)) && isCanonical(value.slice(dot + 1))
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
