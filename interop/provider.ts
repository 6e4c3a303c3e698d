import type { OidcOptions } from '../index.ts'
import type { Page, TestBrowser } from '../lib/testing/index.ts'
import type { BehaviourName } from './behaviours/index.ts'
import type { ClientName, User } from './clients.ts'

/** The user at the browser, and what the provider has asked so far. */
export interface Visitor {
  user: User
  /** Whether the user agrees when the provider asks for consent. */
  consents: boolean
  asked: Array<'password' | 'consent' | 'logout' | 'device'>
}

/** What does not work with a provider. */
export interface Oddity {
  /** Why, printed in the cell. */
  why: string
  /** What the failure of the cell must say: a cell that fails in another way is a failure. */
  shows: RegExp
}

/** What a folder of `interop/` says about its provider. */
export interface InteropProvider {
  /** The name of the folder. The variable OIDC_INTEROP_{NAME} has the issuer. */
  name: string
  /** The options that the plugin needs for this provider, as docs/providers.md has them. */
  options: Partial<OidcOptions>
  /** Options that one behaviour needs in addition. */
  optionsFor?: Partial<Record<BehaviourName, Partial<OidcOptions>>>
  /** The client of a behaviour, when it is not the usual one. */
  clientFor?: Partial<Record<BehaviourName, ClientName>>
  /** Parameters of a request with grant_type=client_credentials. */
  clientCredentials?: Record<string, string>
  /**
   * Answers one page of the provider as the visitor does, and notes in `visitor.asked` what it was. Returns the next
   * page, or `undefined` when the page asks nothing.
   */
  answer: (browser: TestBrowser, page: Page, visitor: Visitor) => Promise<Page | undefined>
  /** What the provider cannot do. */
  oddities: Partial<Record<BehaviourName, Oddity>>
}
