import { randomBytes } from 'node:crypto'
import { createRecordIndex } from '../store/record-index.ts'
import { sha256 } from '../util/crypto.ts'
import { hasBegun, now } from '../util/time.ts'
import type { ClaimOrigins } from '../provider/claim-sources.ts'
import type { Sealer } from '../sealer.ts'
import type { RecordFilter } from '../store/record-index.ts'
import type { Entry, EntryName, SealedStore } from '../store/sealed-store.ts'
import type { OidcClaims, OidcTokens } from '../../types/claims.ts'

/** A grant: its tokens are valid as long as its record is in the store. */
export interface GrantRecord {
  /** The `sid` of its tokens. */
  id: string
  /** The `sub` of its tokens. */
  subject: string
  clientId: string
  scope: string
  /** The user's claims, as the provider gave them. */
  claims: OidcClaims
  /** Where the claims come from, unless all are from the ID token. */
  sources?: ClaimOrigins | undefined
  provider: string
  issuedBy: string
  /** The `client_id` of this application at the provider: the user's roles are those for this client. */
  providerClientId: string
  sid?: string | undefined
  authTime?: number | undefined
  acr?: string | undefined
  /** In milliseconds since the epoch. */
  loginAt: number
  /** In seconds since the epoch. */
  expiresAt: number
  /** The provider's tokens, when it gave a refresh token. */
  tokens?: (OidcTokens & { resource?: string[] | undefined }) | undefined
  /** The hash of the current refresh token. */
  current?: string | undefined
  /** The previous refresh token. Until `until`, it gives the current one, `next`, again. */
  previous?: { hash: string, until: number, next: string } | undefined
}

export type GrantFilter = RecordFilter<'provider' | 'sub' | 'sid' | 'subject'>

/** The state of a refresh token. `repeated`: it was used a moment ago, and `next` has replaced it. */
export type TokenLookup =
  { status: 'current', found: Entry<GrantRecord> } |
  { status: 'repeated', found: Entry<GrantRecord>, next: string } |
  { status: 'reused', id: string } |
  { status: 'unknown' }

/** Grants in the store. Each function throws FST_OIDC_STORE_UNAVAILABLE. */
export interface GrantRecords {
  has: (id: string) => Promise<boolean>
  find: (id: string) => Promise<Entry<GrantRecord> | null>
  create: (record: GrantRecord) => Promise<void>
  /** Returns `false` when the record has changed since it was read. */
  replace: (seen: Entry<GrantRecord>, record: GrantRecord) => Promise<boolean>
  remove: (id: string) => Promise<boolean>
  list: (filter: GrantFilter) => AsyncGenerator<GrantRecord>
  /** A new refresh token for a grant, and the hash that the record keeps of it. */
  newRefreshToken: (id: string) => { token: string, hash: string }
  /** Looks up a refresh token. Asks the store only about tokens that this application has sealed. */
  lookUp: (token: string) => Promise<TokenLookup>
}

/** How long a used refresh token gives the same tokens again, in seconds: the first response may have been lost. */
export const REUSE_GRACE = 30

const nameOf = (id: string): EntryName => ['grant', id]

const index = createRecordIndex(
  'grants',
  ['sid', 'subject', 'sub', 'provider'],
  ({ sid, subject, claims: { sub }, provider }: GrantRecord) => ({ sid, subject, sub, provider })
)

export function createGrantRecords (store: SealedStore, sealer: Sealer): GrantRecords {
  return {
    has: async (id) => await store.has(nameOf(id)),
    find: async (id) => await store.get(nameOf(id)),

    async create (record) {
      await store.set(nameOf(record.id), record, record.expiresAt, index.tagsOf(record))
    },

    async replace (seen, record) {
      return await store.replace(nameOf(seen.content.id), seen, record, record.expiresAt)
    },

    remove: async (id) => await store.remove(nameOf(id)),

    async * list (filter) {
      for await (const record of store.list<GrantRecord>(index.tagFor(filter))) {
        if (index.fits(record, filter)) yield record
      }
    },

    newRefreshToken (id) {
      const secret = randomBytes(32).toString('base64url')
      return { token: sealer.seal('refresh', [id, secret]), hash: sha256(secret) }
    },

    async lookUp (token) {
      const [id, secret] = (sealer.open('refresh', token)?.content ?? []) as [string?, string?]
      const found = id === undefined ? null : await store.get<GrantRecord>(nameOf(id))
      if (found === null) return { status: 'unknown' }
      const { current, previous } = found.content
      const hash = sha256(secret as string)
      if (hash === current) return { status: 'current', found }
      return previous?.hash === hash && isInGrace(previous.until)
        ? { status: 'repeated', found, next: previous.next }
        : { status: 'reused', id: found.content.id }
    }
  }
}

// A clock that is set back must not make a used token good for longer.
function isInGrace (until: number): boolean {
  return until > now() && hasBegun(until - REUSE_GRACE)
}
