import { demand } from '../provider/oauth-error.ts'
import { splitWords } from '../util/words.ts'
import type { FastifyRequest } from 'fastify'
import type { Params } from '../http/params.ts'
import type { Settings } from '../options/settings.ts'
import type { Provider } from '../provider/provider.ts'
import type { Providers } from '../provider/providers.ts'

/** The value of a required parameter. Throws FST_OIDC_GRANT. */
export function requireParam (params: Params, name: string): string {
  const value = params.get(name)
  demand(value !== undefined, 'invalid_request', `The parameter ${name} is missing.`)
  return value
}

/** The provider that a request names, or the only one. Throws FST_OIDC_GRANT, FST_OIDC_PROVIDER_UNKNOWN. */
export async function providerOf (providers: Providers, params: Params, request: FastifyRequest): Promise<Provider> {
  const name = params.get('provider')
  const provider = name === undefined ? await providers.ofRequest(request) : await providers.get(request, name)
  demand(provider !== null, 'invalid_request', 'The parameter provider must name a provider.')
  return provider
}

/**
 * The client that a request names. It needs no secret, because a program cannot keep a secret
 * (RFC 8252, section 8.5). Throws FST_OIDC_GRANT.
 */
export function clientIdOf ({ broker, providers }: Settings, params: Params): string | undefined {
  const clientId = params.get('client_id')
  const native = broker?.nativeClients?.clientIds ?? []
  const known = [...native, ...[...providers.values()].map((provider) => provider.clientId)]
  demand(clientId === undefined || known.includes(clientId), 'invalid_client', 'The client is not known.')
  return clientId
}

/**
 * The requested scope, or the granted one when none is requested. Throws FST_OIDC_GRANT when the requested scope is
 * more than the granted one (RFC 6749, section 6).
 */
export function narrowScope (granted: string, requested: string | undefined): string {
  // An empty parameter counts as missing (RFC 6749, section 3.2).
  if (requested === undefined || requested === '') return granted
  const [names, all] = [splitWords(requested), splitWords(granted)]
  demand(names.every((name) => all.includes(name)), 'invalid_scope', 'The scope is more than what was granted.')
  return names.join(' ')
}
