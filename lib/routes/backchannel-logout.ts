import { OidcError } from '../errors.ts'
import { formParams } from '../http/params.ts'
import { sendJson } from '../http/send-json.ts'
import { replayTime } from '../provider/logout-token.ts'
import { revokeInBackground } from '../provider/revoke.ts'
import { now } from '../util/time.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Parts } from '../compose.ts'
import type { EndedSession } from '../logout/end-sessions.ts'
import type { Provider } from '../provider/provider.ts'
import type { Revocation } from '../provider/revoke.ts'
import type { EntryName } from '../store/sealed-store.ts'
import type { Endpoint, ProviderNameOf } from './endpoint.ts'

/**
 * `POST backchannel-logout`: the provider names a user or session that it has logged out
 * (OpenID Connect Back-Channel Logout 1.0, section 2.5).
 */
export function backchannelLogoutEndpoint (
  parts: Pick<Parts, 'providers' | 'endSessions' | 'seenLogoutTokens' | 'errorResponses'>,
  nameOf: ProviderNameOf
): Endpoint {
  const { providers, endSessions, seenLogoutTokens, errorResponses: { report } } = parts

  async function logOut (request: FastifyRequest, name: string): Promise<void> {
    const token = formParams(request).get('logout_token')
    if (token === undefined) throw new OidcError('FST_OIDC_PARAMETER', { detail: 'logout_token is missing' })
    const provider = await providers.get(request, name)
    const { jti, sid, sub, iat } = await provider.verifyLogoutToken(token)
    const seen: EntryName = ['logout-token', provider.id, jti]
    // If the provider sends the token again, it must not end newer sessions.
    if (await seenLogoutTokens.has(seen)) return
    // The token may come late, after a failure. It does not end sessions that began in the meantime.
    const inTime = iat + 1 + provider.settings.clockTolerance
    const until = inTime > now() ? Infinity : inTime * 1000
    const ended = await endSessions({ provider: name, sid, sub }, 'backchannel', request.log, until)
    await seenLogoutTokens.add(seen, now() + replayTime(provider.settings))
    revokeInBackground(request.log, ended.flatMap((session) => revocationsOf(provider, session)))
  }

  // Section 2.8: the status is 400 for every error, and the body tells the provider what went wrong.
  function refuse (cause: unknown, request: FastifyRequest, reply: FastifyReply): void {
    const { statusCode, message, detail = message } = report(cause, request)
    const description = statusCode >= 500 ? message : detail
    sendJson(reply.code(400), { error: 'invalid_request', error_description: description })
  }

  return {
    async POST (request, reply) {
      try {
        await logOut(request, nameOf(request))
        reply.send()
      } catch (error) {
        refuse(error, request, reply)
      }
      return reply
    }
  }
}

// Section 2.7: a refresh token without offline access ends with the session.
function revocationsOf (provider: Provider, { session: { scopes }, refreshToken }: EndedSession): Revocation[] {
  const isOnlineOnly = refreshToken !== undefined && !scopes.includes('offline_access')
  return isOnlineOnly ? [{ provider, token: refreshToken, hint: 'refresh_token' }] : []
}
