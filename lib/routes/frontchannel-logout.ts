import { logCompleted } from '../http/completed.ts'
import { sendEmptyPage } from '../http/pages.ts'
import { queryParams } from '../http/params.ts'
import { parseUrl } from '../util/url.ts'
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
  function findProblem (request: FastifyRequest, { id, settings }: Provider): string | undefined {
    const params = queryParams(request)
    const [iss, sid] = [params.get('iss'), params.get('sid')]
    if (iss === undefined || sid === undefined) {
      return 'it names no session: register frontchannel_logout_session_required for this client at the provider, ' +
        'so that iss and sid are sent'
    }
    const session = sessions.read(request)
    if (session === null) return 'the browser sent no session cookie with it'
    if (session.issuedBy !== id || iss !== settings.issuer) return 'the session is of another provider'
    return sid === session.session.sid ? undefined : 'sid names another session'
  }

  return {
    async GET (request, reply) {
      const provider = await providers.get(request, nameOf(request))
      const problem = findProblem(request, provider)
      const facts = { provider: provider.name, session: sessions.digest(request) }
      const isEnded = problem === undefined && await sessions.end(request, 'frontchannel')
      if (isEnded) logCompleted(request.log, 'logout', { ...facts, reason: 'frontchannel' })
      else request.log.info({ ...facts, detail: problem }, 'a front-channel logout ended no session')
      sendEmptyPage(reply, originOf(provider))
      return reply
    }
  }
}

/** The origin that may frame the page. An issuer can be any text, where `expectedIssuer` or `metadata` names it. */
function originOf ({ settings: { issuer, discoveryUrl, metadata } }: Provider): string {
  const urls = [issuer, discoveryUrl, metadata.authorization_endpoint ?? ''].map((address) => parseUrl(address))
  return urls.find((url) => url?.protocol === 'https:' || url?.protocol === 'http:')?.origin ?? "'none'"
}
