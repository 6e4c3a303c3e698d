import { demand } from '../../provider/oauth-error.ts'
import { createPassThrough } from '../pass-through.ts'
import { requireParam } from '../request-params.ts'
import { createAuthorizationCode, passAuthorizationCode } from './authorization-code.ts'
import { createDeviceCode } from './device-code.ts'
import { createRefreshToken, passRefreshToken } from './refresh-token.ts'
import { createTokenExchange } from './token-exchange.ts'
import type { Params } from '../../http/params.ts'
import type { AuthorizationCodes } from '../authorization-codes.ts'
import type { PassThroughParts } from '../pass-through.ts'
import type { DeviceCodeParts } from './device-code.ts'
import type { GrantType } from './grant-type.ts'
import type { TokenExchangeParts } from './token-exchange.ts'

export interface GrantTypesParts extends DeviceCodeParts, TokenExchangeParts, PassThroughParts {
  /** With a broker. */
  codes: AuthorizationCodes | undefined
}

/** The grant types of the token endpoint. */
export function createGrantTypes (parts: GrantTypesParts): readonly GrantType[] {
  const { broker, codes, providers } = parts
  const passThrough = createPassThrough(parts)
  const own = broker === undefined || codes === undefined
    ? [passAuthorizationCode(passThrough), passRefreshToken(passThrough)]
    : [createAuthorizationCode({ broker, codes, providers }), createRefreshToken(broker)]
  return [...own, createDeviceCode(parts), createTokenExchange(parts)]
}

/**
 * The grant type of a request. py-oidc-auth-client sends no grant_type: its other parameters decide.
 * Throws FST_OIDC_GRANT.
 */
export function findGrantType (grantTypes: readonly GrantType[], params: Params): GrantType {
  const name = params.get('grant_type')
  const found = name === undefined ? guessGrantType(grantTypes, params) : namedGrantType(grantTypes, name)
  for (const parameter of found.parameters) requireParam(params, parameter)
  return found
}

function guessGrantType (grantTypes: readonly GrantType[], params: Params): GrantType {
  const found = grantTypes.find(({ parameters }) => parameters.every((name) => params.has(name)))
  demand(found !== undefined, 'invalid_request', 'The grant_type is missing.')
  return found
}

function namedGrantType (grantTypes: readonly GrantType[], name: string): GrantType {
  const found = grantTypes.find(({ grantType }) => grantType === name)
  demand(found !== undefined, 'unsupported_grant_type', 'The grant_type is not supported.')
  return found
}
