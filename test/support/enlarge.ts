import type { Provider } from '../../lib/testing/index.ts'

/** By how many characters the tokens of a response become larger. */
export type Sizes = Record<'access_token' | 'refresh_token' | 'id_token', number>

/** Makes the tokens of a provider larger from now on. Returns the members of its last token response. */
export function enlargeTokens (provider: Provider, sizes: Sizes): Record<string, string> {
  const issued: Record<string, string> = {}
  provider.fault({
    on: 'token',
    // The access token changes below.
    idToken: ({ at_hash: _, ...claims }) => ({ ...claims, bulk: 'x'.repeat(sizes.id_token) }),
    tokenResponse: (answer) => {
      for (const name of ['access_token', 'refresh_token'] as const) {
        answer[name] = `${String(answer[name])}${'x'.repeat(sizes[name])}`
      }
      Object.assign(issued, answer)
    }
  })
  return issued
}
