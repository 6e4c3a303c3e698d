import { cookiesNamed, readCookie, totalBytes } from '../http/cookies.ts'
import { now } from '../util/time.ts'
import { LIFETIME, packTrace, startOf, unpackTrace } from './pending-login.ts'
import type { SentCookie } from '../http/cookies.ts'
import type { Settings } from '../options/settings.ts'
import type { Sealer } from '../sealer.ts'
import type { LoginTrace, PackedTrace, PendingLogin } from './pending-login.ts'
import type { OidcSession } from '../../types/claims.ts'

// Version 0.1.0 sealed a whole login into one cookie for each state. Such a login may end after an upgrade.

interface PackedLogin extends PackedTrace {
  login?: [nonce: string, codeVerifier: string, before?: OidcSession]
}

export interface FormerLogins {
  /** The login of a state, or its trace, with the name of its cookie. */
  find: (header: string | undefined, state: string) => { name: string, login: PendingLogin | LoginTrace } | null
  /** The value of the cookie of a used login. */
  used: (trace: LoginTrace) => string
  /** The names of cookies that must go, so that the others have at most `bytes`. Used logins go first. */
  excess: (header: string | undefined, bytes: number) => string[]
  /** The names of all cookies that a key opens. */
  names: (header: string | undefined) => string[]
}

/** The end of the names of the cookies that are in use now. */
const SLOT = /-login-[0-9a-z]$/

export function createFormerLogins (
  { session: { cookieName, formerName }, origin }: Pick<Settings, 'session' | 'origin'>,
  sealer: Sealer
): FormerLogins {
  const bases = [...new Set([cookieName, formerName])]

  function open (value: string): PackedLogin | undefined {
    return sealer.open('login', value)?.content as PackedLogin | undefined
  }

  function unpack ({ login: secrets, ...packed }: PackedLogin): PendingLogin | LoginTrace {
    const trace = unpackTrace(packed, origin)
    if (secrets === undefined) return trace
    const [nonce, codeVerifier, before] = secrets
    return { ...trace, nonce, codeVerifier, before, startedAt: startOf(packed.s) }
  }

  // Another application on this host may have the former name.
  function cookiesOf (header: string | undefined): SentCookie[] {
    const all = bases.flatMap((base) => cookiesNamed(header, `${base}-login-`))
    return all.filter(({ name, value }) => {
      return !SLOT.test(name) && (name.startsWith(`${cookieName}-login-`) || open(value) !== undefined)
    })
  }

  function isWaiting ({ value }: SentCookie): boolean {
    const packed = open(value)
    return packed?.login !== undefined && startOf(packed.s) + LIFETIME > now()
  }

  // The names begin with the time of the login.
  function oldestFirst (cookies: SentCookie[]): SentCookie[] {
    const waiting = new Set(cookies.filter(isWaiting))
    const rank = (cookie: SentCookie): number => Number(waiting.has(cookie))
    return cookies.sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1))
  }

  return {
    find (header, state) {
      for (const base of bases) {
        const name = `${base}-login-${state.slice(0, 16)}`
        const packed = open(readCookie(header, name) ?? '')
        if (packed?.s === state) return { name, login: unpack(packed) }
      }
      return null
    },

    used: (trace) => sealer.seal('login', packTrace(trace, origin)),

    excess (header, bytes) {
      const cookies = cookiesOf(header)
      let total = totalBytes(cookies)
      if (total <= bytes) return []
      const removed = oldestFirst(cookies).filter((cookie) => {
        const isTooMuch = total > bytes
        total -= cookie.bytes
        return isTooMuch
      })
      return removed.map(({ name }) => name)
    },

    names: (header) => cookiesOf(header).filter(({ value }) => open(value) !== undefined).map(({ name }) => name)
  }
}
