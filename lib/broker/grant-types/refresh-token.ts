import { passThrough } from '../pass-through.ts'
import type { Grant } from './index.ts'

/** RFC 6749, section 6 */
export const refreshToken: Grant = {
  grantType: 'refresh_token',
  parameters: ['refresh_token'],
  async handle (context) {
    const { core: { broker }, params, clientId, request } = context
    if (broker === undefined) return await passThrough(context, 'refresh_token', ['refresh_token', 'scope'])
    return await broker.refresh(params.get('refresh_token') as string, {
      grantType: 'refresh_token',
      clientId,
      scope: params.get('scope'),
      request
    })
  }
}
