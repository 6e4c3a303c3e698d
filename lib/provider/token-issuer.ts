import type { JWTPayload } from 'jose'
import type { BearerSettings } from '../options/bearer.ts'
import type { ProviderSettings } from '../options/provider.ts'

/** An issuer of access tokens: a provider, the broker of this application, or the broker of a trusted application. */
export interface TokenIssuer {
  readonly name: string
  readonly settings: Pick<ProviderSettings, 'issuer' | 'clientId' | 'clockTolerance'>
  /** The keys that verify signatures. `undefined` when they must be fetched first. Other keys are another object. */
  keys: () => unknown
  /** The claims of a JWT access token. Throws FST_OIDC_TOKEN. */
  verifyAccessToken: (token: string, rules: BearerSettings) => Promise<JWTPayload>
  /** Whether a token has not been revoked. Called for every request. */
  isLive?: (payload: JWTPayload) => Promise<boolean>
  /** Its tokens are of users only. */
  onlyUsers?: true
  /** The name of the provider that logged the user in, when the issuer is not that provider. */
  providerOf?: (payload: JWTPayload) => string
}
