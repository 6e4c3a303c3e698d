import { demand } from '../../provider/oauth-error.ts'
import { requireParam } from '../request-params.ts'
import type { Providers } from '../../provider/providers.ts'
import type { AuthorizationCodes } from '../authorization-codes.ts'
import type { Broker } from '../broker.ts'
import type { PassThrough } from '../pass-through.ts'
import type { GrantType } from './grant-type.ts'

const GRANT_TYPE = 'authorization_code'
const PARAMETERS = ['code']

export interface AuthorizationCodeParts {
  broker: Broker
  codes: AuthorizationCodes
  providers: Providers
}

/** RFC 6749, section 4.1.3: a code of the broker, for a native application. */
export function createAuthorizationCode ({ broker, codes, providers }: AuthorizationCodeParts): GrantType {
  return {
    grantType: GRANT_TYPE,
    parameters: PARAMETERS,
    async handle ({ params, clientId, request }) {
      const sent = {
        code: params.get('code') as string,
        redirectUri: params.get('redirect_uri'),
        codeVerifier: params.get('code_verifier'),
        clientId
      }
      return await codes.redeem(sent, async ({ native, provider: name, issuedBy, ...subject }) => {
        const provider = await providers.get(request, name)
        demand(provider.id === issuedBy, 'invalid_grant', 'The provider of the login was replaced.')
        const client = native.clientId ?? provider.settings.clientId
        return await broker.issue({ ...subject, provider, clientId: client }, { grantType: GRANT_TYPE, request })
      })
    }
  }
}

/** Without a broker: passes on a code of the provider. */
export function passAuthorizationCode (passThrough: PassThrough): GrantType {
  return {
    grantType: GRANT_TYPE,
    parameters: PARAMETERS,
    async handle (context) {
      for (const name of ['redirect_uri', 'code_verifier']) requireParam(context.params, name)
      return await passThrough(context, GRANT_TYPE, ['code', 'redirect_uri', 'code_verifier'])
    }
  }
}
