import { randomBytes } from 'node:crypto'
import { createBoundedMap } from '../util/bounded-map.ts'
import { addSetCookie, COOKIE_BUDGET, cookiesNamed, readCookie, totalBytes } from '../http/cookies.ts'
import { OidcError } from '../errors.ts'
import { now } from '../util/time.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { SentCookie } from '../http/cookies.ts'
import type { Settings } from '../options/settings.ts'
import type { AuthorizationRequest, Provider } from '../provider/provider.ts'
import type { SealedStore } from '../store/sealed-store.ts'
import type { NativeLogin } from '../broker/native-login.ts'
import type { CookieAttributes, Sealer } from '../sealer.ts'
import type { OidcSession } from '../../types/claims.ts'

/** A login that has begun and waits for its callback. */
export interface PendingLogin extends Omit<AuthorizationRequest, 'redirectUri' | 'resource' | 'scope'> {
  /** The `id` of the provider. */
  provider: string
  returnTo: string
  /** Instead of those of the provider's options. */
  resource?: string[] | undefined
  /** The native application that it is for, which has no session here. */
  native?: NativeLogin | undefined
  /** Whether the provider was to ask nothing (`prompt=none`): that it would have to is no error. */
  silent: boolean
  /** Whether it was begun because an earlier callback came too late: it is not begun a third time. */
  restarted: boolean
  /** The session that the browser had, where the callback comes without its cookies. */
  before?: OidcSession | undefined
  startedAt: number
}

/**
 * What is left of a pending login once its callback came, or was never asked for in this browser:
 * - `fresh`: take it, nobody else has.
 * - `over`: this browser began it, but it is too old or was taken before.
 * - `unknown`: this browser did not begin it.
 */
export type Taken =
  { status: 'fresh', login: PendingLogin } |
  { status: 'over' } & Trace |
  { status: 'unknown' }

export interface PendingLogins {
  /** Fresh values for a login: 128 bits or more each (RFC 9700, section 2.1). */
  create: () => Pick<PendingLogin, 'state' | 'nonce' | 'codeVerifier' | 'startedAt'>
  save: (request: FastifyRequest, reply: FastifyReply, provider: Provider, login: PendingLogin) => void
  /**
   * The login of this state, once: the second caller gets `over`, whatever cookie it sends. Throws
   * FST_OIDC_RESPONSE_ISSUER when it was begun with another provider.
   */
  take: (request: FastifyRequest, reply: FastifyReply, provider: Provider, state: string) => Promise<Taken>
  /** Drops the oldest until the plugin's cookies stay within `bytes`. */
  fit: (request: FastifyRequest, reply: FastifyReply, bytes: number) => void
  /** Drops all that the browser sent. */
  clear: (request: FastifyRequest, reply: FastifyReply) => void
}

/** How long a login may take, in seconds. */
const LIFETIME = 600
/** How long the browser keeps the cookie: a late callback still knows where it was to go. */
const COOKIE_LIFETIME = 7200
const MAX_PENDING = 12
const TIME_LENGTH = 10 // of milliseconds in base 36: enough until the year 115,000
/** In one response: more than the plugin ever set come from somebody else. */
const MAX_DROPPED = 40
const MAX_CONSUMED = 100_000

/** One sealed cookie per state: logins that begin at the same moment do not overwrite one another. */
export function createPendingLogins (settings: Settings, sealer: Sealer, vault?: SealedStore): PendingLogins {
  const prefix = `${settings.session.cookieName}-login-`
  const consumed = createBoundedMap<true>(MAX_CONSUMED)

  function nameOf (state: string): string {
    return prefix + state.slice(0, 16)
  }

  function set (reply: FastifyReply, name: string, value: string, attributes: CookieAttributes): void {
    addSetCookie(reply, sealer.setCookie(name, value, attributes))
  }

  function open (value: string): Packed | undefined {
    return sealer.open('login', value)?.content as Packed | undefined
  }

  /** Whether a callback for it may still come. */
  function waits ({ value }: SentCookie): boolean {
    const packed = open(value)
    return packed?.login !== undefined && isCurrent({ startedAt: timeOf(packed.s) })
  }

  function read (request: FastifyRequest, state: string): PendingLogin | Trace | null {
    const value = readCookie(request.headers.cookie, nameOf(state))
    const packed = value === undefined ? undefined : open(value)
    return packed?.s === state ? unpack(packed, settings.origin) : null
  }

  function seal (login: PendingLogin | Trace): string {
    return sealer.seal('login', pack(login, settings.origin))
  }

  // Beside a large session there is no room for a long address.
  function sealWithin (bytes: number, login: PendingLogin): string {
    const value = seal(login)
    return value.length <= bytes ? value : seal({ ...login, returnTo: settings.defaultReturnTo })
  }

  // What is left of logins goes before those that wait; the names begin with the time of the login, and so
  // the oldest come first.
  function drop (request: FastifyRequest, reply: FastifyReply, most: number, bytes: number): void {
    const cookies = cookiesNamed(request.headers.cookie, prefix)
    let total = totalBytes(cookies)
    if (cookies.length <= most && total <= bytes) return
    const waiting = new Set(cookies.filter(waits))
    cookies.sort((a, b) => Number(waiting.has(a)) - Number(waiting.has(b)) || (a.name < b.name ? -1 : 1))
    const dropped = cookies.filter((cookie, index) => {
      const tooMuch = cookies.length - index > most || total > bytes
      total -= cookie.bytes
      return tooMuch
    })
    for (const { name } of dropped.slice(0, MAX_DROPPED)) set(reply, name, '', { maxAge: 0, sameSite: 'lax' })
  }

  return {
    create () {
      const random = randomBytes(64)
      const token = (start: number, end: number): string => random.subarray(start, end).toString('base64url')
      const state = Date.now().toString(36).padStart(TIME_LENGTH, '0') + token(0, 16)
      return { state, nonce: token(16, 32), codeVerifier: token(32, 64), startedAt: timeOf(state) }
    },

    save (request, reply, provider, login) {
      const all = cookiesNamed(request.headers.cookie, settings.session.cookieName)
      const others = totalBytes(all.filter(({ name }) => !name.startsWith(prefix)))
      const room = COOKIE_BUDGET - others - nameOf(login.state).length - 3
      const value = sealWithin(room, login)
      drop(request, reply, MAX_PENDING - 1, room - value.length)
      set(reply, nameOf(login.state), value, { maxAge: COOKIE_LIFETIME, sameSite: sameSiteOf(provider) })
    },

    async take (request, reply, provider, state) {
      const login = read(request, state)
      if (login === null) return { status: 'unknown' }
      // Another provider's answer, or a mix-up (RFC 9700, section 4.4): the code must not reach this one.
      if (login.provider !== provider.id) {
        throw new OidcError('FST_OIDC_RESPONSE_ISSUER', { detail: 'the login was begun with another provider' })
      }
      const trace = traceOf(login)
      if (!('nonce' in login) || consumed.get(state) !== undefined || !isCurrent(login)) {
        return { status: 'over', ...trace }
      }
      const expiresAt = login.startedAt + LIFETIME + 1
      consumed.set(login.state, true, expiresAt)
      // Another process may have taken it.
      if (await vault?.create(['login', state], true, expiresAt) === null) return { status: 'over', ...trace }
      set(reply, nameOf(state), seal(trace), { maxAge: LIFETIME, sameSite: sameSiteOf(provider) })
      return { status: 'fresh', login }
    },

    fit (request, reply, bytes) {
      drop(request, reply, MAX_PENDING, bytes)
    },

    clear (request, reply) {
      drop(request, reply, 0, 0)
    }
  }
}

/**
 * What stays of a login that was taken, so that its callback, called again, knows where to go and what was
 * asked for.
 */
type Trace = Pick<
  PendingLogin,
  'state' | 'provider' | 'returnTo' | 'silent' | 'restarted' | 'maxAge' | 'acrValues' | 'resource' | 'native'
>

/**
 * The content of the cookie, short: a browser that restores dozens of tabs begins a login in each, before the plugin
 * sees any of its cookies and can drop some. Addresses are relative to the origin, and the state tells when it began.
 */
interface Packed {
  s: string
  p: string
  r: string
  q?: 1
  x?: 1
  m?: number
  a?: string[]
  o?: string[]
  n?: NativeLogin
  login?: [nonce: string, codeVerifier: string, before?: OidcSession]
}

function pack (login: PendingLogin | Trace, origin: string): Packed {
  const { state, provider, returnTo, silent, restarted, maxAge, acrValues, resource, native } = login
  return {
    s: state,
    p: provider,
    r: returnTo.slice(origin.length),
    ...(silent && { q: 1 }),
    ...(restarted && { x: 1 }),
    ...(maxAge !== undefined && { m: maxAge }),
    ...(acrValues !== undefined && { a: acrValues }),
    ...(resource !== undefined && { o: resource }),
    ...(native !== undefined && { n: native }),
    ...('nonce' in login && {
      login:
        login.before === undefined ? [login.nonce, login.codeVerifier] : [login.nonce, login.codeVerifier, login.before]
    })
  }
}

function unpack (
  { s: state, p: provider, r, q, x, m: maxAge, a: acrValues, o: resource, n: native, login }: Packed,
  origin: string
): PendingLogin | Trace {
  const trace = {
    state,
    provider,
    returnTo: origin + r,
    silent: q === 1,
    restarted: x === 1,
    maxAge,
    acrValues,
    resource,
    native
  }
  if (login === undefined) return trace
  const [nonce, codeVerifier, before] = login
  return { ...trace, nonce, codeVerifier, before, startedAt: timeOf(state) }
}

function traceOf ({
  state, provider, returnTo, silent, restarted, maxAge, acrValues, resource, native
}: PendingLogin | Trace): Trace {
  return { state, provider, returnTo, silent, restarted, maxAge, acrValues, resource, native }
}

// The form that a provider makes the browser post comes from another site.
function sameSiteOf ({ settings }: Provider): CookieAttributes['sameSite'] {
  return settings.responseMode === 'form_post' ? 'none' : 'lax'
}

function timeOf (state: string): number {
  return Math.floor(parseInt(state.slice(0, TIME_LENGTH), 36) / 1000)
}

function isCurrent ({ startedAt }: Pick<PendingLogin, 'startedAt'>): boolean {
  return startedAt + LIFETIME > now() && startedAt <= now() + 5
}
