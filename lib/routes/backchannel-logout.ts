import { findProvider } from '../guard/guards.ts'
import { OidcError } from '../errors.ts'
import { replayTime } from '../provider/logout-token.ts'
import { formParams } from '../http/params.ts'
import { report } from '../http/error-response.ts'
import { revokeInBackground } from '../provider/revoke.ts'
import { endSessions } from '../logout/end-sessions.ts'
import { now } from '../util/time.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Core } from '../compose.ts'
import type { SessionRecord } from '../session/session-records.ts'
import type { EntryName } from '../store/sealed-store.ts'
import type { Endpoint } from './index.ts'

/**
 * `POST backchannel-logout`: the provider says who has logged out (OpenID Connect Back-Channel Logout 1.0,
 * section 2.5).
 */
export function backchannelLogoutEndpoint (core: Core, nameOf: (request: FastifyRequest) => string): Endpoint {
  return {
    async POST (request, reply) {
      try {
        await backchannelLogout(core, request, nameOf(request))
        reply.send()
      } catch (error) {
        refuseLogout(core, error, request, reply)
      }
      return reply
    }
  }
}

async function backchannelLogout (core: Core, request: FastifyRequest, name: string): Promise<void> {
  const token = formParams(request).get('logout_token')
  if (token === undefined) throw new OidcError('FST_OIDC_PARAMETER', { detail: 'logout_token is missing' })
  const provider = await findProvider(core, request, name)
  const { jti, sid, sub, iat } = await provider.verifyLogoutToken(token)
  const seen: EntryName = ['logout-token', provider.id, jti]
  // Sent again, it must not end what began since.
  if (await core.memory.has(seen)) return
  // One that comes late, after a failure perhaps, is not about who logged in meanwhile.
  const at = Math.min(Date.now(), (iat + 1 + provider.settings.clockTolerance) * 1000)
  const ended = await endSessions(core, { provider: name, sid, sub }, 'backchannel', at)
  await core.memory.add(seen, now() + replayTime(provider.settings))
  revokeInBackground(
    request.log,
    ended
      .filter(isOnlineOnly)
      .map(({ tokens }) => ({ provider, token: tokens.refresh_token as string, hint: 'refresh_token' }))
  )
  request.log.info({ provider: name, sessions: ended.length }, 'the provider has logged somebody out')
}

// Section 2.7: refresh tokens that were not issued for offline access end with the session.
function isOnlineOnly ({ session: { scopes }, tokens }: SessionRecord): boolean {
  return tokens.refresh_token !== undefined && !scopes.includes('offline_access')
}

// Section 2.8: whatever went wrong, it is 400, and the provider is told what.
function refuseLogout (core: Core, cause: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const error = report(core, cause, request)
  reply
    .code(400)
    .send({
      error: 'invalid_request',
      error_description: error.statusCode >= 500 ? error.message : (error.detail ?? error.message)
    })
}
