import type { Broker } from '../broker.ts'
import type { PassThrough } from '../pass-through.ts'
import type { GrantType } from './grant-type.ts'

const GRANT_TYPE = 'refresh_token'
const PARAMETERS = ['refresh_token']

/** RFC 6749, section 6: a refresh token of the broker. */
export function createRefreshToken (broker: Broker): GrantType {
  return {
    grantType: GRANT_TYPE,
    parameters: PARAMETERS,
    async handle ({ params, clientId, request }) {
      const token = params.get('refresh_token') as string
      return await broker.refresh(token, { grantType: GRANT_TYPE, clientId, scope: params.get('scope'), request })
    }
  }
}

/** Without a broker: passes on a refresh token of the provider. */
export function passRefreshToken (passThrough: PassThrough): GrantType {
  return {
    grantType: GRANT_TYPE,
    parameters: PARAMETERS,
    handle: async (context) => await passThrough(context, GRANT_TYPE, ['refresh_token', 'scope'])
  }
}
