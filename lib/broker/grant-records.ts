import { hash, randomBytes } from 'node:crypto'
import { now } from '../util/time.ts'
import type { Sealer } from '../sealer.ts'
import type { Entry, EntryName, SealedStore } from '../store/sealed-store.ts'
import type { OidcClaims, OidcTokens } from '../../types/claims.ts'

/** What somebody was given: as long as it is in the store, the tokens of it are good. */
export interface GrantRecord {
  /** The `sid` of its tokens. */
  id: string
  /** The `sub` of its tokens. */
  subject: string
  clientId: string
  scope: string
  /** Who it is, as the provider says. */
  claims: OidcClaims
  provider: string
  issuedBy: string
  /** The `client_id` of this application at the provider: its roles are those of the person. */
  providerClientId: string
  sid?: string | undefined
  authTime?: number | undefined
  acr?: string | undefined
  /** In milliseconds since the epoch. */
  loginAt: number
  /** In seconds since the epoch. */
  expiresAt: number
  /** Those of the provider, where it gave a refresh token. */
  tokens?: (OidcTokens & { resource?: string[] | undefined }) | undefined
  /** The hash of the refresh token that is good, and what came before it. */
  current?: string | undefined
  previous?: { hash: string, until: number, next: string } | undefined
}

export interface GrantFilter {
  provider?: string | undefined
  sub?: string | undefined
  sid?: string | undefined
  subject?: string | undefined
}

/** What became of a refresh token: `repeated` with the one that took its place a moment ago. */
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
  /** Whether it was still what was seen. */
  replace: (seen: Entry<GrantRecord>, record: GrantRecord) => Promise<boolean>
  remove: (id: string) => Promise<boolean>
  list: (filter: GrantFilter) => AsyncGenerator<GrantRecord>
  /** A refresh token for a grant, and what the record keeps of it. */
  newRefreshToken: (id: string) => { token: string, hash: string }
  /** Looks a refresh token up; one that was not made here is not asked for. */
  lookUp: (token: string) => Promise<TokenLookup>
}

/**
 * How long a refresh token that was used is good for the same answer again, in seconds: the first one may not
 * have arrived.
 */
export const REUSE_GRACE = 30

export function createGrantRecords (vault: SealedStore, sealer: Sealer): GrantRecords {
  const keyOf = (id: string): EntryName => ['grant', id]

  return {
    has: async (id) => await vault.has(keyOf(id)),
    find: async (id) => await vault.get(keyOf(id)),

    async create (record) {
      await vault.set(keyOf(record.id), record, record.expiresAt, tagsOf(record))
    },

    replace: async ({ content: { id }, ...seen }, record) =>
      await vault.replace(keyOf(id), { ...seen, content: null }, record, record.expiresAt),
    remove: async (id) => await vault.remove(keyOf(id)),

    async * list (filter) {
      for await (const record of vault.list<GrantRecord>(tagFor(filter))) {
        if (fits(record, filter)) yield record
      }
    },

    newRefreshToken (id) {
      const secret = randomBytes(32).toString('base64url')
      return { token: sealer.seal('refresh', [id, secret]), hash: hashOf(secret) }
    },

    async lookUp (token) {
      const [id, secret] = (sealer.open('refresh', token)?.content ?? []) as [string?, string?]
      const found = id === undefined ? null : await vault.get<GrantRecord>(keyOf(id))
      if (found === null) return { status: 'unknown' }
      const { current, previous } = found.content
      const hash = hashOf(secret as string)
      if (hash === current) return { status: 'current', found }
      return previous?.hash === hash && previous.until > now()
        ? { status: 'repeated', found, next: previous.next }
        : { status: 'reused', id: found.content.id }
    }
  }
}

function hashOf (secret: string): string {
  return hash('sha256', secret, 'base64url')
}

function tagsOf ({ subject, provider, sid, claims: { sub } }: GrantRecord): EntryName[] {
  return [
    ['grants', 'subject', subject],
    ['grants', 'sub', sub],
    ['grants', 'provider', provider],
    ...(sid === undefined ? [] : [['grants', 'sid', sid] as const])
  ]
}

/** The one that the fewest grants have. */
function tagFor ({ provider, sub, sid, subject }: GrantFilter): EntryName {
  if (sid !== undefined) return ['grants', 'sid', sid]
  if (subject !== undefined) return ['grants', 'subject', subject]
  return sub === undefined ? ['grants', 'provider', provider as string] : ['grants', 'sub', sub]
}

function fits (
  record: GrantRecord,
  { provider = record.provider, sub = record.claims.sub, sid = record.sid, subject = record.subject }: GrantFilter
): boolean {
  return record.provider === provider && record.claims.sub === sub && record.sid === sid && record.subject === subject
}
