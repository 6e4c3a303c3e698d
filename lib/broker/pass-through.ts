import { demand } from '../provider/oauth-error.ts'
import { parseUrl } from '../util/url.ts'
import { providerOf } from './request-params.ts'
import { toGranted } from './token-response.ts'
import type { Urls } from '../http/urls.ts'
import type { Providers } from '../provider/providers.ts'
import type { Telemetry } from '../telemetry.ts'
import type { GrantContext } from './grant-types/grant-type.ts'
import type { Granted } from './token-response.ts'

/**
 * Without a broker, the token endpoint returns the provider's own tokens. This application adds its client
 * authentication. `names` are the parameters that it passes on.
 */
export type PassThrough = (context: GrantContext, grantType: string, names: string[]) => Promise<Granted>

export interface PassThroughParts {
  providers: Providers
  urls: Urls
  telemetry: Telemetry
}

export function createPassThrough ({ providers, urls, telemetry }: PassThroughParts): PassThrough {
  return async ({ params, request }, grantType, names) => {
    const provider = await providerOf(providers, params, request)
    // A code that was stolen from the callback must not work here. Programs have redirect URIs of their own.
    const isOwn = parseUrl(params.get('redirect_uri') ?? '')?.href === new URL(urls.callback(provider.name)).href
    demand(!isOwn, 'invalid_grant', 'The redirect_uri is that of this application itself.')
    const given = names.filter((name) => params.has(name))
    const sent = Object.fromEntries(given.map((name) => [name, params.get(name) as string]))
    const { tokens } = await telemetry.exchangeTokens(provider.name, async () =>
      await provider.grant(grantType, sent))
    return toGranted(provider.name, tokens)
  }
}
