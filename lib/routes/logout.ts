import { OidcError } from '../errors.ts'
import { isClick, isPrefetch, isSameOrigin, wantsPage } from '../http/fetch-metadata.ts'
import { confirmLogoutPage } from '../http/pages.ts'
import { formParams, queryParams } from '../http/params.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Parts } from '../compose.ts'
import type { Endpoint } from './endpoint.ts'

/**
 * `POST logout`, and `GET logout` by a click on the application's own pages.
 * Another site, or an image, cannot log a user out.
 */
export function logoutEndpoint (
  { logout, urls, settings }: Pick<Parts, 'logout' | 'urls' | 'settings'>,
  path: string
): Endpoint {
  const { origin, defaultReturnTo, session: { trustedOrigins } } = settings
  const isOwn = (request: FastifyRequest): boolean => isSameOrigin(request, origin, trustedOrigins)
  const logOut = async (returnTo: string | undefined, request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    await logout(request, reply, { returnTo: urls.returnTo(returnTo), federated: true })
  }

  return {
    async GET (request, reply) {
      if (isPrefetch(request)) throw new OidcError('FST_OIDC_PREFETCH')
      if (isOwn(request) && isClick(request)) await logOut(queryParams(request).get('return_to'), request, reply)
      else if (wantsPage(request)) confirmLogoutPage(reply.code(403), urls.route(path), defaultReturnTo)
      else throw new OidcError('FST_OIDC_CROSS_SITE')
      return reply
    },

    async POST (request, reply) {
      if (!isOwn(request)) throw new OidcError('FST_OIDC_CROSS_SITE')
      const returnTo = formParams(request).get('return_to') ?? queryParams(request).get('return_to')
      await logOut(returnTo, request, reply)
      return reply
    }
  }
}
