import { demand } from '../../provider/oauth-error.ts'
import { requireParam } from '../request-params.ts'
import { redeemCode } from '../native-login.ts'
import { passThrough } from '../pass-through.ts'
import { findProvider } from '../../guard/guards.ts'
import type { Grant } from './index.ts'

/** A code of ours, for a native application; without a broker, a code of the provider. */
export const authorizationCode: Grant = {
  grantType: 'authorization_code',
  parameters: ['code'],
  async handle (context) {
    const { core, params, clientId, request } = context
    const { broker } = core
    if (broker === undefined) {
      for (const name of ['redirect_uri', 'code_verifier']) requireParam(params, name)
      return await passThrough(context, 'authorization_code', ['code', 'redirect_uri', 'code_verifier'])
    }
    const sent = {
      code: params.get('code') as string,
      redirectUri: params.get('redirect_uri'),
      codeVerifier: params.get('code_verifier'),
      clientId
    }
    return await redeemCode(core, sent, async ({ native, provider: name, issuedBy, ...subject }) => {
      const provider = await findProvider(core, request, name)
      demand(provider.id === issuedBy, 'invalid_grant', 'The provider is another one now.')
      return await broker.issue(
        { ...subject, provider, clientId: native.clientId ?? provider.settings.clientId },
        { grantType: 'authorization_code', request }
      )
    })
  }
}
