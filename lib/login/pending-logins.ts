import { OidcError } from '../errors.ts'
import { COOKIE_BUDGET, addSetCookie, cookiesNamed, readCookie, totalBytes } from '../http/cookies.ts'
import { now } from '../util/time.ts'
import { newLogin, packLogin, startOf, traceOf, unpackLogin } from './pending-login.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { SentCookie } from '../http/cookies.ts'
import type { Settings } from '../options/settings.ts'
import type { Provider } from '../provider/provider.ts'
import type { CookieAttributes, Sealer } from '../sealer.ts'
import type { Seen } from '../store/seen.ts'
import type { LoginTrace, PackedLogin, PendingLogin } from './pending-login.ts'

/**
 * What a callback finds:
 * - `fresh`: the login, which this call has taken.
 * - `over`: this browser began the login, but it is too old or was taken before.
 * - `unknown`: this browser did not begin the login.
 */
export type TakenLogin =
  { status: 'fresh', login: PendingLogin } |
  { status: 'over' } & LoginTrace |
  { status: 'unknown' }

export interface PendingLogins {
  /** New values for a login. */
  create: typeof newLogin
  save: (request: FastifyRequest, reply: FastifyReply, provider: Provider, login: PendingLogin) => void
  /**
   * Takes the login of a state, once: the second caller gets `over`, whatever cookie it sends.
   * Throws FST_OIDC_RESPONSE_ISSUER when the login began with another provider.
   */
  take: (request: FastifyRequest, reply: FastifyReply, provider: Provider, state: string) => Promise<TakenLogin>
  /** Removes the oldest logins until their cookies are at most `bytes` long. */
  fit: (request: FastifyRequest, reply: FastifyReply, bytes: number) => void
  /** Removes all logins of the browser. */
  clear: (request: FastifyRequest, reply: FastifyReply) => void
}

/** How long a login may take, in seconds. */
const LIFETIME = 600
/** How long the browser keeps the cookie, in seconds: a late callback still finds its `returnTo`. */
const COOKIE_LIFETIME = 7200
const MAX_PENDING = 12
/** How many cookies one response removes. The plugin never sets that many: the others do not come from it. */
const MAX_REMOVED = 40

export interface PendingLoginsParts {
  sealer: Sealer
  /** Which logins were taken. */
  taken: Seen
}

/** One sealed cookie per state: logins that begin at the same moment do not overwrite one another. */
export function createPendingLogins (
  { session: { cookieName }, origin, defaultReturnTo }: Settings,
  { sealer, taken }: PendingLoginsParts
): PendingLogins {
  const prefix = `${cookieName}-login-`

  function nameOf (state: string): string {
    return prefix + state.slice(0, 16)
  }

  function set (reply: FastifyReply, name: string, value: string, attributes: CookieAttributes): void {
    addSetCookie(reply, sealer.setCookie(name, value, attributes))
  }

  function open (value: string): PackedLogin | undefined {
    return sealer.open('login', value)?.content as PackedLogin | undefined
  }

  function seal (login: PendingLogin | LoginTrace): string {
    return sealer.seal('login', packLogin(login, origin))
  }

  // With a large session, there may be no room for a long address.
  function sealWithin (bytes: number, login: PendingLogin): string {
    const value = seal(login)
    return value.length <= bytes ? value : seal({ ...login, returnTo: defaultReturnTo })
  }

  function read (request: FastifyRequest, state: string): PendingLogin | LoginTrace | null {
    const value = readCookie(request.headers.cookie, nameOf(state))
    const packed = value === undefined ? undefined : open(value)
    return packed?.s === state ? unpackLogin(packed, origin) : null
  }

  /** Whether a callback may still come for this cookie. */
  function isWaiting ({ value }: SentCookie): boolean {
    const packed = open(value)
    return packed?.login !== undefined && isInTime(startOf(packed.s))
  }

  // Used logins go first, then the oldest: the names begin with the time of the login.
  function oldestFirst (cookies: SentCookie[]): SentCookie[] {
    const waiting = new Set(cookies.filter(isWaiting))
    const rank = (cookie: SentCookie): number => Number(waiting.has(cookie))
    return cookies.sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1))
  }

  /** Removes cookies until at most `count` of at most `bytes` in all are left. */
  function shrink (request: FastifyRequest, reply: FastifyReply, count: number, bytes: number): void {
    const cookies = cookiesNamed(request.headers.cookie, prefix)
    let total = totalBytes(cookies)
    if (cookies.length <= count && total <= bytes) return
    const removed = oldestFirst(cookies).filter((cookie, index) => {
      const isTooMuch = cookies.length - index > count || total > bytes
      total -= cookie.bytes
      return isTooMuch
    })
    for (const { name } of removed.slice(0, MAX_REMOVED)) set(reply, name, '', { maxAge: 0, sameSite: 'lax' })
  }

  return {
    create: newLogin,

    save (request, reply, provider, login) {
      const all = cookiesNamed(request.headers.cookie, cookieName)
      const others = totalBytes(all.filter(({ name }) => !name.startsWith(prefix)))
      const room = COOKIE_BUDGET - others - nameOf(login.state).length - 3
      const value = sealWithin(room, login)
      shrink(request, reply, MAX_PENDING - 1, room - value.length)
      set(reply, nameOf(login.state), value, { maxAge: COOKIE_LIFETIME, sameSite: sameSiteOf(provider) })
    },

    async take (request, reply, provider, state) {
      const login = read(request, state)
      if (login === null) return { status: 'unknown' }
      // A mix-up (RFC 9700, section 4.4): the code of one provider must not reach another.
      if (login.provider !== provider.id) {
        throw new OidcError('FST_OIDC_RESPONSE_ISSUER', { detail: 'the login began with another provider' })
      }
      const trace = traceOf(login)
      const isFresh = 'nonce' in login && isInTime(login.startedAt) &&
        await taken.claim(['login', state], login.startedAt + LIFETIME + 1)
      if (!isFresh) return { status: 'over', ...trace }
      set(reply, nameOf(state), seal(trace), { maxAge: LIFETIME, sameSite: sameSiteOf(provider) })
      return { status: 'fresh', login }
    },

    fit (request, reply, bytes) {
      shrink(request, reply, MAX_PENDING, bytes)
    },

    clear (request, reply) {
      shrink(request, reply, 0, 0)
    }
  }
}

// With form_post, the browser posts a form from the provider's site to the callback.
function sameSiteOf ({ settings }: Provider): CookieAttributes['sameSite'] {
  return settings.responseMode === 'form_post' ? 'none' : 'lax'
}

function isInTime (startedAt: number): boolean {
  return startedAt + LIFETIME > now() && startedAt <= now() + 5
}
