import { cookiesNamed } from './cookies.ts'
import type { SentCookie } from './cookies.ts'

/** The cookies that browsers send to one host: all registrations of this process there share one budget. */
export interface CookieSpace {
  /** How many cookie names share the budget. */
  readonly sharers: number
  /** The cookies of a Cookie header that belong to any registration. */
  cookiesOf: (header: string | undefined) => SentCookie[]
  /** The registration no longer counts. */
  leave: () => void
}

/** The cookie names of the registrations, by host. */
const hosts = new Map<string, string[]>()

/** Adds a registration. Its cookies are named `name`, `name-tokens-0` and so on. */
export function joinCookieSpace (host: string, name: string): CookieSpace {
  const names = hosts.get(host) ?? []
  hosts.set(host, names)
  names.push(name)
  return {
    get sharers () {
      return new Set(names).size
    },
    cookiesOf: (header) => cookiesNamed(header, '').filter((cookie) => names.some((base) => isOf(base, cookie.name))),
    leave () {
      names.splice(names.indexOf(name), 1)
      if (names.length === 0) hosts.delete(host)
    }
  }
}

// Names may begin alike, such as `oidc.a` and `oidc.a.b`: only what follows tells whose cookie it is.
function isOf (base: string, name: string): boolean {
  return name.startsWith(base) && /^(?:$|-tokens-|-login-|-return$|-silent$)/.test(name.slice(base.length))
}
