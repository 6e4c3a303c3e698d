import { addSetCookie, readCookie } from '../http/cookies.ts'
import { isNavigation, isPrefetch } from '../http/fetch-metadata.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Urls } from '../http/urls.ts'
import type { SessionSettings } from '../options/session.ts'
import type { Provider } from '../provider/provider.ts'
import type { Sealer } from '../sealer.ts'
import type { Sessions } from '../session/sessions.ts'
import type { Login } from './login.ts'

/** Logins that show the user nothing (`prompt=none`). */
export interface SilentLogin {
  /**
   * Whether an anonymous navigation may try a silent login: at most once in ten minutes.
   * Otherwise a user without a session at the provider would be redirected in a loop.
   */
  canTry: (request: FastifyRequest) => boolean
  /** Prevents silent logins for ten minutes. */
  suppress: (reply: FastifyReply) => void
  start: (provider: Provider, request: FastifyRequest, reply: FastifyReply) => Promise<void>
}

export interface SilentLoginParts {
  session: Pick<SessionSettings, 'cookieName'>
  sealer: Sealer
  sessions: Sessions
  login: Login
  urls: Urls
}

/** In seconds. */
const SUPPRESSED_FOR = 600

export function createSilentLogin ({ session, sealer, sessions, login, urls }: SilentLoginParts): SilentLogin {
  const cookieName = `${session.cookieName}-silent`
  const isSuppressed = ({ headers: { cookie } }: FastifyRequest): boolean =>
    readCookie(cookie, cookieName) !== undefined

  return {
    canTry (request) {
      const isAnonymous = sessions.read(request) === null
      return isAnonymous && isNavigation(request) && !isPrefetch(request) && !isSuppressed(request)
    },

    suppress (reply) {
      addSetCookie(reply, sealer.setCookie(cookieName, '1', { maxAge: SUPPRESSED_FOR, sameSite: 'lax' }))
    },

    async start (provider, request, reply) {
      const returnTo = urls.request(request)
      await login.start(provider, request, reply, { returnTo, authorizationParams: { prompt: 'none' } })
    }
  }
}
