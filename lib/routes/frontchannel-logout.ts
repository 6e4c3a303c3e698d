import { emptyPage } from '../http/pages.ts'
import { queryParams } from '../http/params.ts'
import type { FastifyRequest } from 'fastify'
import type { Parts } from '../compose.ts'
import type { Provider } from '../provider/provider.ts'
import type { Endpoint, ProviderNameOf } from './endpoint.ts'

/**
 * `GET frontchannel-logout?iss=…&sid=…`: the provider opens it in a frame
 * (OpenID Connect Front-Channel Logout 1.0, section 2).
 */
export function frontchannelLogoutEndpoint (
  { providers, sessions }: Pick<Parts, 'providers' | 'sessions'>,
  nameOf: ProviderNameOf
): Endpoint {
  // Any site can make a browser open this address. Only a caller that knows the session may end it.
  function namesSession (request: FastifyRequest, { id, settings }: Provider): boolean {
    const params = queryParams(request)
    const sid = params.get('sid')
    const session = sessions.read(request)
    const isOfProvider = session?.issuedBy === id && params.get('iss') === settings.issuer
    return isOfProvider && sid !== undefined && sid === session.session.sid
  }

  return {
    async GET (request, reply) {
      const provider = await providers.get(request, nameOf(request))
      if (namesSession(request, provider)) await sessions.end(request, 'frontchannel')
      emptyPage(reply, new URL(provider.settings.issuer).origin)
      return reply
    }
  }
}
