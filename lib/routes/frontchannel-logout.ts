import { findProvider } from '../guard/guards.ts'
import { endSession } from '../logout/logout.ts'
import { emptyPage } from '../http/pages.ts'
import { queryParams } from '../http/params.ts'
import type { FastifyRequest } from 'fastify'
import type { Core } from '../compose.ts'
import type { Params } from '../http/params.ts'
import type { Provider } from '../provider/provider.ts'
import type { Endpoint } from './index.ts'

/**
 * `GET frontchannel-logout?iss=…&sid=…`: framed by the provider (OpenID Connect Front-Channel Logout 1.0,
 * section 2).
 */
export function frontchannelLogoutEndpoint (core: Core, nameOf: (request: FastifyRequest) => string): Endpoint {
  return {
    async GET (request, reply) {
      const provider = await findProvider(core, request, nameOf(request))
      if (isMeant(core, request, provider, queryParams(request))) await endSession(core, request, 'frontchannel')
      emptyPage(reply, new URL(provider.settings.issuer).origin)
      return reply
    }
  }
}

// Anybody can make a browser open this address: only who knows the session can end it.
function isMeant ({ sessions }: Core, request: FastifyRequest, { id, settings }: Provider, params: Params): boolean {
  const session = sessions.read(request)
  return (
    session?.issuedBy === id &&
    params.get('iss') === settings.issuer &&
    params.get('sid') !== undefined &&
    params.get('sid') === session.session.sid
  )
}
