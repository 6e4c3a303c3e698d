import { OidcError } from '../errors.ts'
import { isClick, isPrefetch, wantsPage } from '../http/fetch-metadata.ts'
import { formParams, queryParams } from '../http/params.ts'
import { confirmLogoutPage } from '../pages/pages.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Parts } from '../compose.ts'
import type { Endpoint } from './endpoint.ts'

/**
 * `POST logout`, and `GET logout` by a click on the application's own pages.
 * Another site, an image, or a link from outside the browser cannot log a user out.
 */
export function logoutEndpoint (
  parts: Pick<Parts, 'logout' | 'urls' | 'ownOrigin' | 'pages' | 'settings'>,
  path: string
): Endpoint {
  const { logout, urls, pages, ownOrigin: { isOwn }, settings: { defaultReturnTo } } = parts
  const logOut = async (returnTo: string | undefined, request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    await logout(request, reply, { returnTo: urls.returnTo(returnTo), federated: true })
  }

  /** Where the question posts its form: with the `return_to` of the request, if that is safe. */
  function actionOf (request: FastifyRequest): string {
    const returnTo = queryParams(request).get('return_to')
    if (returnTo === undefined) return urls.route(path)
    return `${urls.route(path)}?${new URLSearchParams({ return_to: urls.returnTo(returnTo) }).toString()}`
  }

  async function ask (request: FastifyRequest, reply: FastifyReply): Promise<void> {
    await pages.send(reply, confirmLogoutPage(actionOf(request), defaultReturnTo))
  }

  return {
    async GET (request, reply) {
      if (isPrefetch(request)) throw new OidcError('FST_OIDC_PREFETCH')
      if (isOwn(request) && isClick(request)) await logOut(queryParams(request).get('return_to'), request, reply)
      else if (wantsPage(request)) await ask(request, reply.code(403))
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
