import { redirect } from '../http/redirect.ts'
import { queryParams } from '../http/params.ts'
import { now } from '../util/time.ts'
import type { Core } from '../compose.ts'
import type { LogoutState } from '../logout/logout.ts'
import type { Endpoint } from './index.ts'

const LIFETIME = 600

/** Where the provider sends the browser after a logout; a wrong or missing `state` only forgets where it was to go. */
export function loggedOutEndpoint (core: Core): Endpoint {
  return {
    async GET (request, reply) {
      const state = core.sealer.open('logout', queryParams(request).get('state') ?? '')?.content as
        LogoutState | undefined
      const known = state !== undefined && state.startedAt + LIFETIME > now()
      redirect(request, reply, known ? state.returnTo : core.settings.defaultReturnTo)
      return reply
    }
  }
}
