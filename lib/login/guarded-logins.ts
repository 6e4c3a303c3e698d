import { addSetCookie, readCookie } from '../http/cookies.ts'
import { sha256 } from '../util/crypto.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { SessionSettings } from '../options/session.ts'
import type { Sealer } from '../sealer.ts'
import type { PendingLogin } from './pending-login.ts'

/** What a guard asks for. */
export type GuardedLogin = Pick<PendingLogin, 'provider' | 'returnTo' | 'maxAge' | 'acrValues'>

/**
 * The logins that guards began in a browser and that have succeeded, until a guard lets the user through. A guard that
 * begins the same login again would do so without end, for example when the browser drops the session cookie.
 */
export interface GuardedLogins {
  /** Remembers a login that has succeeded. */
  add: (request: FastifyRequest, reply: FastifyReply, login: GuardedLogin) => void
  has: (request: FastifyRequest, login: GuardedLogin) => boolean
  /** Forgets all logins of the browser. */
  clear: (request: FastifyRequest, reply: FastifyReply) => void
}

/** In seconds. The page comes right after the login. */
const LIFETIME = 600
/** Several guards of one page may each begin a login, such as one for all pages and one for a recent login. */
const MAX_LOGINS = 3
/** In characters. */
const NAME_LENGTH = 8
/** The most that the cookie takes in the header, beside its name, in bytes. */
export const DONE_LENGTH = MAX_LOGINS * (NAME_LENGTH + 1) + 2

export function createGuardedLogins (
  { session, sealer }: { session: Pick<SessionSettings, 'cookieName'>, sealer: Sealer }
): GuardedLogins {
  const cookieName = `${session.cookieName}-done`

  function read ({ headers: { cookie } }: FastifyRequest): string[] {
    return readCookie(cookie, cookieName)?.split('.') ?? []
  }

  function write (reply: FastifyReply, value: string, maxAge: number): void {
    addSetCookie(reply, sealer.setCookie(cookieName, value, { maxAge, sameSite: 'lax' }))
  }

  return {
    add (request, reply, login) {
      const others = read(request).slice(1 - MAX_LOGINS)
      write(reply, [...others, nameOf(login)].join('.'), LIFETIME)
    },

    has: (request, login) => read(request).includes(nameOf(login)),

    clear (request, reply) {
      if (readCookie(request.headers.cookie, cookieName) !== undefined) write(reply, '', 0)
    }
  }
}

// Not a secret: a browser that changes it gets an error, or begins one more login.
function nameOf ({ provider, returnTo, maxAge, acrValues }: GuardedLogin): string {
  return sha256(JSON.stringify([provider, returnTo, maxAge, acrValues])).slice(0, NAME_LENGTH)
}
