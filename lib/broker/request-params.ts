import { findProvider } from '../guard/guards.ts'
import { demand } from '../provider/oauth-error.ts'
import type { FastifyRequest } from 'fastify'
import type { Core } from '../compose.ts'
import type { Params } from '../http/params.ts'
import type { Provider } from '../provider/provider.ts'

/** The provider that a request names, or the only one. Throws FST_OIDC_GRANT, FST_OIDC_PROVIDER_UNKNOWN. */
export async function findOneProvider (core: Core, params: Params, request: FastifyRequest): Promise<Provider> {
  const name = params.get('provider')
  const provider =
    name === undefined ? await core.providers.ofRequest(request) : await findProvider(core, request, name)
  demand(provider !== null, 'invalid_request', 'The parameter provider must name one.')
  return provider
}
