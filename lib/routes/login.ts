import { isPrefetch, isScript } from '../caller.ts'
import { OidcError } from '../errors.ts'
import { startLogin } from '../login.ts'
import { queryParams } from '../params.ts'
import type { FastifyInstance } from 'fastify'
import type { Core } from '../core.ts'

/** `GET login?return_to=…` */
export function loginRoute (scope: FastifyInstance, core: Core, path: string): void {
  scope.get(path, async (request, reply) => {
    if (isPrefetch(request)) throw new OidcError('FST_OIDC_PREFETCH')
    if (isScript(request)) throw new OidcError('FST_OIDC_NAVIGATION')
    const returnTo = core.urls.returnTo(queryParams(request).get('return_to'))
    return await startLogin(core, request, reply, { returnTo })
  })
}
