import { queryParams } from '../http/params.ts'
import { redirect } from '../http/redirect.ts'
import { now } from '../util/time.ts'
import type { Parts } from '../compose.ts'
import type { LogoutState } from '../logout/logout.ts'
import type { Endpoint } from './endpoint.ts'

/** How long a `state` is accepted, in seconds. */
const LIFETIME = 600

/**
 * `GET logged-out`: the provider sends the browser here after a logout. With a wrong or missing `state`,
 * the browser goes to the default address.
 */
export function loggedOutEndpoint ({ sealer, settings }: Pick<Parts, 'sealer' | 'settings'>): Endpoint {
  return {
    async GET (request, reply) {
      const state = queryParams(request).get('state') ?? ''
      const content = sealer.open('logout', state)?.content as LogoutState | undefined
      const isKnown = content !== undefined && content.startedAt + LIFETIME > now()
      redirect(request, reply, isKnown ? content.returnTo : settings.defaultReturnTo)
      return reply
    }
  }
}
