import type { OidcOptions, ResolvedProvider, Store } from '../../index.ts'

/** The names that a fragment of code on a page may use. The page says what they are. */
export interface Context {
  options: OidcOptions
  key: string
  users: { upsert: (user: { iss: string, sub: string, email: unknown }) => Promise<{ id: number, name: string }> }
  audit: { write: (id: string, reason: string) => Promise<void> }
  clients: Record<'google' | 'corp', { clientId: string, clientSecret: string }>
  tenants: { find: (name: string) => Promise<ResolvedProvider | null> }
  store: Store
}

/** Their values, when a test runs the code. */
export declare const context: Context
