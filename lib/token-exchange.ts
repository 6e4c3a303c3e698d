import type { Telemetry } from './telemetry.ts'

/** A request to the token endpoint, in its span and counted by its outcome. */
export async function exchangeTokens<T> (telemetry: Telemetry, request: () => Promise<T>): Promise<T> {
  return await telemetry.span('oidc.token_exchange', async () => {
    try {
      const tokenSet = await request()
      telemetry.tokenExchange('success')
      return tokenSet
    } catch (error) {
      telemetry.tokenExchange('failure')
      throw error
    }
  })
}
