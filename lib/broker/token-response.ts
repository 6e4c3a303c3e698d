import { now } from '../util/time.ts'
import type { OidcTokens } from '../../types/claims.ts'

/** The answer of the token endpoint (RFC 6749, section 5.1), with the fields of py-oidc-auth. */
export interface TokenResponse {
  access_token: string
  token_type: string
  /** In seconds. */
  expires_in?: number
  /** In seconds since the epoch, like `refresh_expires`. */
  expires?: number
  refresh_token?: string
  refresh_expires?: number
  scope?: string
  /** RFC 8693, section 2.2.1 */
  issued_token_type?: string
}

/** The answer of the token endpoint, and what the log says of it. */
export interface Granted {
  response: TokenResponse
  /** The name of the provider. */
  provider: string
  /** The identifier of the grant. The tokens of the provider itself have none. */
  id?: string
}

/** Tokens of a grant. */
export type Issued = Required<Granted>

export function toIssued ({ id, provider }: Omit<Issued, 'response'>, response: TokenResponse): Issued {
  return { id, provider, response }
}

/** The provider's own tokens as an answer. */
export function toGranted (provider: string, tokens: OidcTokens): Granted {
  return { provider, response: toTokenResponse(tokens) }
}

function toTokenResponse (tokens: OidcTokens): TokenResponse {
  const { access_token, refresh_token, scope, expires_at: expires } = tokens
  return {
    access_token,
    token_type: 'Bearer',
    ...(expires !== undefined && { expires_in: expires - now(), expires }),
    ...(refresh_token !== undefined && { refresh_token }),
    ...(scope !== undefined && { scope })
  }
}
