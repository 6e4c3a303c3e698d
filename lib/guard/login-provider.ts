import type { FastifyRequest } from 'fastify'
import type { Provider } from '../provider/provider.ts'
import type { Providers } from '../provider/providers.ts'
import type { Sessions } from '../session/sessions.ts'
import type { Constraints } from './constraints.ts'

/**
 * The provider for a login at a guarded route: that of the user's session, or the one that the guard accepts;
 * `null` when the user must choose.
 */
export type LoginProvider = (constraints: Constraints, request: FastifyRequest) => Promise<Provider | null>

export function createLoginProvider (
  { providers, sessions }: { providers: Providers, sessions: Sessions }
): LoginProvider {
  return async ({ providers: namesOf }, request) => {
    const session = sessions.read(request)
    const names = namesOf?.(request)
    if (session !== null && names?.includes(session.session.provider) !== false) return sessions.provider(request)
    if (names === undefined) return await providers.ofRequest(request)
    return names.length === 1 ? await providers.get(request, names[0] as string) : null
  }
}
