import { goTo } from '../login.ts'
import { queryParams } from '../params.ts'
import { now } from '../time.ts'
import type { FastifyInstance } from 'fastify'
import type { Core } from '../core.ts'
import type { LogoutState } from '../logout.ts'

const LIFETIME = 600

/** Where the provider sends the browser after a logout; a wrong or missing `state` only forgets where it was to go. */
export function loggedOutRoute (scope: FastifyInstance, core: Core, path: string): void {
  scope.get(path, async (request, reply) => {
    const state = core.sealer.open('logout', queryParams(request).get('state') ?? '')?.content as LogoutState | undefined
    const known = state !== undefined && state.startedAt + LIFETIME > now()
    return goTo(request, reply, known ? state.returnTo : core.settings.defaultReturnTo)
  })
}
