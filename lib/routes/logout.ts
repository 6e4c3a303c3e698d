import { isPrefetch, isSameOrigin, wantsPage } from '../caller.ts'
import { OidcError } from '../errors.ts'
import { logout } from '../logout.ts'
import { confirmLogoutPage } from '../pages.ts'
import { formParams, queryParams } from '../params.ts'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Core } from '../core.ts'
import type { Params } from '../params.ts'

/** `POST logout`, and `GET logout` from the application's own pages: another site can log nobody out. */
export function logoutRoute (scope: FastifyInstance, core: Core, path: string): void {
  scope.get(path, async (request, reply) => {
    if (isPrefetch(request)) throw new OidcError('FST_OIDC_PREFETCH')
    if (!isOwn(core, request) && wantsPage(request)) return confirmLogoutPage(reply.code(403), core.urls.route(path))
    return await leave(core, queryParams(request), request, reply)
  })
  scope.post(path, async (request, reply) => {
    const params = new Map([...queryParams(request), ...formParams(request)])
    return await leave(core, params, request, reply)
  })
}

async function leave (core: Core, params: Params, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  if (!isOwn(core, request)) throw new OidcError('FST_OIDC_CROSS_SITE')
  return await logout(core, request, reply, { returnTo: core.urls.returnTo(params.get('return_to')), federated: true })
}

function isOwn ({ settings }: Core, request: FastifyRequest): boolean {
  return isSameOrigin(request, settings.origin, settings.session.trustedOrigins)
}
