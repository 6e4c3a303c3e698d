import { http } from '../util/node-http.ts'
import { COOKIE_BUDGET, LOGIN_BUDGET, cookiesNamed, totalBytes } from './cookies.ts'
import type { CookieNames } from './cookie-names.ts'
import type { SentCookie } from './cookies.ts'

/**
 * The cookies that browsers send to one host, whatever the port and the path. All registrations of this process there
 * share one budget, and leave room for the cookies of other processes and other software.
 */
export interface CookieSpace {
  /** How many cookie names share the budget. */
  readonly sharers: number
  /** The name of this registration's session cookie in a browser. */
  nameFor: (header: string | undefined) => string
  read: (header: string | undefined) => CookieShares
  /** The registration no longer counts. */
  leave: () => void
}

/** Whose cookies are in a Cookie header, and what room they leave. */
export interface CookieShares {
  /** The cookies that belong to any registration. */
  own: SentCookie[]
  others: SentCookie[]
  /** How many bytes the cookies of all registrations may have together, beside the others. Logins have their own. */
  budget: number
  /** Whether the request should not get more cookies than it brings. */
  isFull: boolean
}

/** The cookie names of the registrations, by host. */
const hosts = new Map<string, CookieNames[]>()

/** What is left for the address and the other headers of a request, in bytes. */
const OTHER_HEADERS = 4096

/** By how many bytes tokens with the same claims and other times may differ when they are compressed. */
const COMPRESSION_VARIES = 128

/**
 * Adds a registration. `maxHeader` is the limit of its server for the head of a request, in bytes: beyond it, Node.js
 * answers 431 to every request until cookies expire.
 */
export function joinCookieSpace (host: string, names: CookieNames, maxHeader = http.maxHeaderSize): CookieSpace {
  const registrations = hosts.get(host) ?? []
  hosts.set(host, registrations)
  registrations.push(names)
  const limit = maxHeader - OTHER_HEADERS
  return {
    get sharers () {
      return new Set(registrations.map(({ name }) => name)).size
    },

    nameFor: names.current,

    read (header) {
      const bases = registrations.flatMap(({ name, former }) => [name, former(header) ?? name])
      const isOwn = ({ name }: SentCookie): boolean => bases.some((base) => isOf(base, name))
      const all = cookiesNamed(header, '')
      const own = all.filter(isOwn)
      const others = all.filter((cookie) => !isOwn(cookie))
      const room = limit - LOGIN_BUDGET - totalBytes(others)
      // What is there already may be replaced: that makes the header no larger, except by a few bytes.
      const present = totalBytes(own.filter(({ name }) => !isReserved(name)))
      const replaced = present === 0 ? 0 : present + COMPRESSION_VARIES
      const budget = Math.min(COOKIE_BUDGET - LOGIN_BUDGET, Math.max(room, replaced))
      return { own, others, budget, isFull: totalBytes(all) >= limit }
    },

    leave () {
      registrations.splice(registrations.indexOf(names), 1)
      if (registrations.length === 0) hosts.delete(host)
    }
  }
}

/** Whether LOGIN_BUDGET is reserved for a cookie of the plugin. */
export function isReserved (name: string): boolean {
  return /-(?:login-[0-9a-z]|silent|done)$/.test(name)
}

// Names may begin alike, such as `oidc.a` and `oidc.a.b`: only what follows tells whose cookie it is.
function isOf (base: string, name: string): boolean {
  return name.startsWith(base) && /^(?:$|-tokens-|-user-|-login-|-return$|-silent$|-done$)/.test(name.slice(base.length))
}
