import { isFramed, isPrefetch, isScript } from '../caller.ts'
import { OidcError } from '../errors.ts'
import { startLogin } from '../login.ts'
import { queryParams } from '../params.ts'
import type { Core } from '../core.ts'
import type { Endpoint } from './index.ts'

/** `GET login?return_to=…` */
export function loginEndpoint (core: Core): Endpoint {
  return {
    async GET (request, reply) {
      if (isPrefetch(request)) throw new OidcError('FST_OIDC_PREFETCH')
      if (isScript(request) || isFramed(request)) throw new OidcError('FST_OIDC_NAVIGATION')
      const returnTo = core.urls.returnTo(queryParams(request).get('return_to'))
      await startLogin(core, request, reply, { returnTo })
      return reply
    }
  }
}
