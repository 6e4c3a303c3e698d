import { randomBytes } from 'node:crypto'
import type { Provider } from '../../lib/testing/index.ts'

/** By how many characters the tokens of a response become larger. */
export type Sizes = Record<'access_token' | 'refresh_token' | 'id_token', number>

/** Text of letters and digits that does not become smaller when it is compressed, except by a quarter. */
export function randomText (length: number): string {
  return randomBytes(length).toString('base64url').slice(0, length)
}

/** Makes the tokens of a provider larger from now on. Returns the members of its last token response. */
export function enlargeTokens (provider: Provider, sizes: Sizes): Record<string, string> {
  const issued: Record<string, string> = {}
  provider.fault({
    on: 'token',
    // The access token changes below.
    idToken: ({ at_hash: _, ...claims }) => ({ ...claims, bulk: randomText(sizes.id_token) }),
    tokenResponse: (answer) => {
      for (const name of ['access_token', 'refresh_token'] as const) {
        answer[name] = `${String(answer[name])}${'~'.repeat(sizes[name])}`
      }
      Object.assign(issued, answer)
    }
  })
  return issued
}
