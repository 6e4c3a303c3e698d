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

/** The value of a parameter that must be there. Throws FST_OIDC_GRANT. */
export function requireParam (params: Params, name: string): string {
  const value = params.get(name)
  demand(value !== undefined, 'invalid_request', `The parameter ${name} is missing.`)
  return value
}

/**
 * The scope that is wanted, of what was granted; all of it when none is named (RFC 6749, section 6). Throws
 * FST_OIDC_GRANT.
 */
export function narrowScope (granted: string, wanted: string | undefined): string {
  // An empty parameter is none (RFC 6749, section 3.2).
  if (wanted === undefined || wanted === '') return granted
  const [names, all] = [wanted, granted].map((scope) => scope.split(' ').filter(Boolean)) as [string[], string[]]
  demand(names.every((name) => all.includes(name)), 'invalid_scope', 'The scope is more than what was granted.')
  return names.join(' ')
}
