import { maxHeaderSize } from 'node:http'
import { COOKIE_BUDGET, LOGIN_BUDGET, cookiesNamed, totalBytes } from './cookies.ts'
import type { SentCookie } from './cookies.ts'

/**
 * The cookies that browsers send to one host, whatever the port and the path. All registrations of this process there
 * share one budget, and leave room for the cookies of other processes and other software.
 */
export interface CookieSpace {
  /** How many cookie names share the budget. */
  readonly sharers: number
  /** The cookies of a Cookie header that belong to any registration. */
  cookiesOf: (header: string | undefined) => SentCookie[]
  /** The other cookies of a Cookie header. */
  othersIn: (header: string | undefined) => SentCookie[]
  /**
   * How many bytes the cookies of all registrations may have together, beside the others in a Cookie header and
   * without those of logins.
   */
  budget: (header: string | undefined) => number
  /** Whether a request should not get more cookies than it brings. */
  isFull: (header: string | undefined) => boolean
  /** The registration no longer counts. */
  leave: () => void
}

/** The cookie names of the registrations, by host. */
const hosts = new Map<string, string[]>()

/** What is left for the address and the other headers of a request, in bytes. */
const OTHER_HEADERS = 4096

/**
 * Adds a registration. Its cookies are named `name`, `name-tokens-0` and so on. `maxHeader` is the limit of its server
 * for the head of a request, in bytes: beyond it, Node.js answers 431 to every request until cookies expire.
 */
export function joinCookieSpace (host: string, name: string, maxHeader = maxHeaderSize): CookieSpace {
  const names = hosts.get(host) ?? []
  hosts.set(host, names)
  names.push(name)
  const isOfAny = (cookie: SentCookie): boolean => names.some((base) => isOf(base, cookie.name))
  const cookiesOf = (header: string | undefined): SentCookie[] => cookiesNamed(header, '').filter(isOfAny)
  const othersIn = (header: string | undefined): SentCookie[] =>
    cookiesNamed(header, '').filter((cookie) => !isOfAny(cookie))
  const limit = maxHeader - OTHER_HEADERS
  return {
    get sharers () {
      return new Set(names).size
    },
    cookiesOf,
    othersIn,
    budget (header) {
      const room = limit - LOGIN_BUDGET - totalBytes(othersIn(header))
      // What is there already may be replaced: that makes the header no larger.
      const present = totalBytes(cookiesOf(header).filter(({ name }) => !isReserved(name)))
      return Math.min(COOKIE_BUDGET - LOGIN_BUDGET, Math.max(room, present))
    },
    isFull: (header) => totalBytes(cookiesNamed(header, '')) >= limit,
    leave () {
      names.splice(names.indexOf(name), 1)
      if (names.length === 0) hosts.delete(host)
    }
  }
}

/** Whether LOGIN_BUDGET is reserved for a cookie of the plugin. */
export function isReserved (name: string): boolean {
  return /-(?:login-[0-9a-z]|silent|done)$/.test(name)
}

// Names may begin alike, such as `oidc.a` and `oidc.a.b`: only what follows tells whose cookie it is.
function isOf (base: string, name: string): boolean {
  return name.startsWith(base) && /^(?:$|-tokens-|-login-|-return$|-silent$|-done$)/.test(name.slice(base.length))
}
