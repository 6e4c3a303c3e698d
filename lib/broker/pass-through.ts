import { parseUrl } from '../util/url.ts'
import { exchangeTokens } from '../token-exchange.ts'
import { now } from '../util/time.ts'
import { demand } from '../provider/oauth-error.ts'
import { findOneProvider } from './request-params.ts'
import type { OidcTokens } from '../../types/claims.ts'
import type { GrantContext } from './grant-types/index.ts'
import type { TokenResponse } from './token-response.ts'

/** Without a broker the provider's own tokens are the answer: this application adds how its client authenticates. */
export async function passThrough (
  { core, params, request }: GrantContext,
  grantType: string,
  names: string[]
): Promise<TokenResponse> {
  const provider = await findOneProvider(core, params, request)
  // Whoever finds a code of the callback here must not be able to use it: programs have redirect URIs of their own.
  const isOwn = parseUrl(params.get('redirect_uri') ?? '')?.href === new URL(core.urls.callback(provider.name)).href
  demand(!isOwn, 'invalid_grant', 'The redirect_uri is that of this application itself.')
  const sent = Object.fromEntries(names.flatMap((name) => params.has(name) ? [[name, params.get(name) as string]] : []))
  const { tokens } = await exchangeTokens(core.telemetry, async () => await provider.grant(grantType, sent))
  return describeTokens(tokens)
}

export function describeTokens (tokens: OidcTokens): TokenResponse {
  const { access_token, refresh_token, scope, expires_at: expires } = tokens
  return {
    access_token,
    token_type: 'Bearer',
    ...(expires !== undefined && { expires_in: expires - now(), expires }),
    ...(refresh_token !== undefined && { refresh_token }),
    ...(scope !== undefined && { scope })
  }
}
