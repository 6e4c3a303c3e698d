import { isClick, isPrefetch, isSameOrigin, wantsPage } from '../http/fetch-metadata.ts'
import { OidcError } from '../errors.ts'
import { logout } from '../logout/logout.ts'
import { confirmLogoutPage } from '../http/pages.ts'
import { formParams, queryParams } from '../http/params.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Core } from '../compose.ts'
import type { Params } from '../http/params.ts'
import type { Endpoint } from './index.ts'

/**
 * `POST logout`, and `GET logout` by a click on the application's own pages: another site, or an image, can
 * log nobody out.
 */
export function logoutEndpoint (core: Core, path: string): Endpoint {
  return {
    async GET (request, reply) {
      if (isPrefetch(request)) throw new OidcError('FST_OIDC_PREFETCH')
      if (isOwn(core, request) && isClick(request)) await leave(core, queryParams(request), request, reply)
      else if (wantsPage(request)) {
        confirmLogoutPage(reply.code(403), core.urls.route(path), core.settings.defaultReturnTo)
      } else throw new OidcError('FST_OIDC_CROSS_SITE')
      return reply
    },
    async POST (request, reply) {
      if (!isOwn(core, request)) throw new OidcError('FST_OIDC_CROSS_SITE')
      await leave(core, new Map([...queryParams(request), ...formParams(request)]), request, reply)
      return reply
    }
  }
}

async function leave (core: Core, params: Params, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  await logout(core, request, reply, { returnTo: core.urls.returnTo(params.get('return_to')), federated: true })
}

function isOwn ({ settings }: Core, request: FastifyRequest): boolean {
  return isSameOrigin(request, settings.origin, settings.session.trustedOrigins)
}
