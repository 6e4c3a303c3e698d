import type { JWTPayload } from 'jose'
import type { BearerSettings } from '../options/bearer.ts'
import type { ProviderSettings } from '../options/provider.ts'

/** Who vouches for tokens: a provider, this application's broker, or another instance that is trusted. */
export interface TokenIssuer {
  readonly name: string
  readonly settings: Pick<ProviderSettings, 'issuer' | 'clientId' | 'clockTolerance'>
  /** What signatures are verified with, as long as that needs no asking. */
  keys: () => unknown
  verifyAccessToken: (token: string, rules: BearerSettings) => Promise<JWTPayload>
  /** Whether a token has not been revoked, where that can be known; asked with every request. */
  isLive?: (payload: JWTPayload) => Promise<boolean>
  /** The name of the provider that a token is about, where that is another one. */
  providerOf?: (payload: JWTPayload) => string
}
