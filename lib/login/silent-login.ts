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
   * Whether an anonymous navigation may try a silent login: at most once in ten minutes, and once a day if the
   * provider does not answer. Otherwise a user without a session at the provider would be redirected in a loop.
   */
  canTry: (request: FastifyRequest) => boolean
  /** Prevents silent logins for ten minutes: the provider has answered one, or none is wanted. */
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
/** In seconds: a provider that does not know `prompt=none` shows a form to every visitor. */
const SUPPRESSED_UNANSWERED = 86_400

export function createSilentLogin (parts: SilentLoginParts): SilentLogin {
  const { session, sealer, sessions, login, urls } = parts
  const cookieName = `${session.cookieName}-silent`
  const isSuppressed = ({ headers: { cookie } }: FastifyRequest): boolean =>
    readCookie(cookie, cookieName) !== undefined

  function suppress (reply: FastifyReply, maxAge: number): void {
    addSetCookie(reply, sealer.setCookie(cookieName, '1', { maxAge, sameSite: 'lax' }))
  }

  return {
    canTry (request) {
      const isAnonymous = sessions.read(request) === null
      return isAnonymous && isNavigation(request) && !isPrefetch(request) && !isSuppressed(request)
    },

    suppress: (reply) => suppress(reply, SUPPRESSED_FOR),

    async start (provider, request, reply) {
      const returnTo = urls.request(request)
      suppress(reply, SUPPRESSED_UNANSWERED)
      await login.start(provider, request, reply, { returnTo, authorizationParams: { prompt: 'none' } })
    }
  }
}
