import { cookiesNamed, readCookie } from './cookies.ts'
import type { Settings } from '../options/settings.ts'
import type { Sealer } from '../sealer.ts'

/** The names of the cookies of one registration: each begins with one of these. */
export interface CookieNames {
  readonly name: string
  /**
   * The former name, when a Cookie header has cookies of it that a key of this registration opens: another application
   * on this host may have that name.
   */
  former: (header: string | undefined) => string | undefined
  /** A browser whose session or login began before the name changed keeps the former name until they are over. */
  current: (header: string | undefined) => string
}

export function createCookieNames (
  { session: { cookieName, formerName } }: { session: Pick<Settings['session'], 'cookieName' | 'formerName'> },
  sealer: Pick<Sealer, 'open'>
): CookieNames {
  function hasOwn (header: string | undefined): boolean {
    const session = readCookie(header, formerName)
    if (session !== undefined) return sealer.open('session', session) !== null
    return cookiesNamed(header, `${formerName}-login-`).some(({ value }) => sealer.open('login', value) !== null)
  }

  const isRenamed = formerName !== cookieName
  const former = (header: string | undefined): string | undefined =>
    isRenamed && hasOwn(header) ? formerName : undefined

  return {
    name: cookieName,
    former,
    current (header) {
      const isFormer = isRenamed && readCookie(header, cookieName) === undefined
      return isFormer ? former(header) ?? cookieName : cookieName
    }
  }
}
