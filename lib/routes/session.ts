import { OidcError } from '../errors.ts'
import { sendJson } from '../http/send-json.ts'
import type { Parts } from '../compose.ts'
import type { Endpoint } from './endpoint.ts'

/** `GET session`: the user's claims, for a front end in the browser. It does not prolong the session. */
export function sessionEndpoint ({ sessions }: Pick<Parts, 'sessions'>): Endpoint {
  return {
    async GET (request, reply) {
      const found = sessions.read(request)
      if (found === null) throw new OidcError('FST_OIDC_LOGIN_REQUIRED')
      const { provider, loginTime, expiresAt } = found.session
      return sendJson(reply, { claims: found.claims, session: { provider, loginTime, expiresAt } })
    }
  }
}
