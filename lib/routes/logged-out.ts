import { queryParams } from '../http/params.ts'
import { redirect } from '../http/redirect.ts'
import { loggedOutPage } from '../pages/pages.ts'
import { now } from '../util/time.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Parts } from '../compose.ts'
import type { LogoutState } from '../logout/logout.ts'
import type { TextLink } from '../pages/pages.ts'
import type { Endpoint } from './endpoint.ts'

/** How long a `state` is accepted, in seconds. */
const LIFETIME = 600

/**
 * `GET logged-out`: the provider sends the browser here after a logout. With a wrong or missing `state`, the browser
 * goes to the default address. A logout whose `return_to` is this address ends with a page here.
 */
export function loggedOutEndpoint (
  { sealer, sessions, urls, pages, settings }: Pick<Parts, 'sealer' | 'sessions' | 'urls' | 'pages' | 'settings'>,
  path: string
): Endpoint {
  const { defaultReturnTo } = settings
  const loginUrl = urls.login({})
  const links: TextLink[] = [
    ...(loginUrl === null ? [] : [{ url: loginUrl, text: 'logInAgain' as const }]),
    { url: defaultReturnTo, text: 'backToStart' }
  ]

  function returnToOf (request: FastifyRequest): string {
    const state = queryParams(request).get('state') ?? ''
    const content = sealer.open('logout', state)?.content as LogoutState | undefined
    return content !== undefined && content.startedAt + LIFETIME > now() ? content.returnTo : defaultReturnTo
  }

  // Who has logged in since must not read that the session is over.
  async function showPage (request: FastifyRequest, reply: FastifyReply): Promise<void> {
    if (sessions.read(request) === null) await pages.send(reply, loggedOutPage(links))
    else redirect(request, reply, defaultReturnTo)
  }

  return {
    async GET (request, reply) {
      const returnTo = returnToOf(request)
      if (returnTo === urls.route(path)) await showPage(request, reply)
      else redirect(request, reply, returnTo)
      return reply
    }
  }
}
