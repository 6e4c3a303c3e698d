import { OidcError } from '../errors.ts'
import type { Core } from '../compose.ts'
import type { Endpoint } from './index.ts'

/** `GET session`: who is logged in, for a front end in the browser; asking does not prolong the session. */
export function sessionEndpoint (core: Core): Endpoint {
  return {
    async GET (request) {
      const found = core.sessions.read(request)
      if (found === null) throw new OidcError('FST_OIDC_LOGIN_REQUIRED')
      const { provider, loginTime, expiresAt } = found.session
      return { claims: found.claims, session: { provider, loginTime, expiresAt } }
    }
  }
}
