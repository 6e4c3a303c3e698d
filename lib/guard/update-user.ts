import { check } from '../options/check.ts'
import { loginRequired, refuseToken } from '../session/access-token.ts'
import { toJsonText } from '../util/json.ts'
import { freeze } from '../util/token-cache.ts'
import type { FastifyRequest } from 'fastify'
import type { Session } from '../session/session.ts'
import type { Sessions } from '../session/sessions.ts'
import type { Guards } from './guards.ts'
import type { OidcUser } from '../../types/claims.ts'

/**
 * Replaces the user of a session, for what changes after the login. Throws FST_OIDC_LOGIN_REQUIRED,
 * FST_OIDC_SESSION_TOO_LARGE, FST_OIDC_OPTION and what `app.oidc.session` throws.
 */
export type UpdateUser = (request: FastifyRequest, user: OidcUser | null) => Promise<void>

export function createUpdateUser (
  { guards, sessions }: { guards: Pick<Guards, 'session'>, sessions: Sessions }
): UpdateUser {
  return async function updateUser (request, user) {
    refuseToken(request)
    const kept = copy(user)
    // Another site must not change anything: for it, there is no session.
    if (await guards.session(request) === null) throw loginRequired('there is no session')
    await sessions.replaceUser(request, kept)
    if (request.oidcSession !== null) request.oidcUser = kept
  }
}

/** What later requests will read. */
function copy (user: OidcUser | null): Session['user'] {
  const json = toJsonText(user)
  check(json !== undefined, 'the user must be a JSON value')
  return freeze(JSON.parse(json) as Session['user'])
}
