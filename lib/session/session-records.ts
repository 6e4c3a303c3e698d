import type { SessionTokens } from './session.ts'
import type { Session } from './session.ts'
import type { Entry, EntryName, SealedStore } from '../store/sealed-store.ts'
import type { OidcSession } from '../../types/claims.ts'
import type { SessionFilter as PublicFilter } from '../../types/fastify.ts'

/** What the store keeps of a session. */
export interface SessionRecord {
  issuedBy: string
  session: OidcSession
  sub: string
  loginAt: number
  tokens: SessionTokens
}

/** Sessions in the store. Each function throws FST_OIDC_STORE_UNAVAILABLE. */
export interface SessionRecords {
  has: (id: string) => Promise<boolean>
  find: (id: string) => Promise<Entry<SessionRecord> | null>
  create: (session: Session, tokens: SessionTokens) => Promise<void>
  /** Whether the session was still there, with the tokens that were seen. */
  replaceTokens: (seen: Entry<SessionRecord>, session: OidcSession, tokens: SessionTokens) => Promise<boolean>
  /** Whether it was there. */
  remove: (id: string) => Promise<boolean>
  list: (filter: SessionFilter) => AsyncGenerator<SessionRecord>
}

/** As in `app.oidc.sessions`; `undefined` where it does not matter. */
export type SessionFilter = { [Key in keyof PublicFilter]: string | undefined }

const keyOf = (id: string): EntryName => ['session', id]

export function createSessionRecords (vault: SealedStore): SessionRecords {
  return {
    has: async (id) => await vault.has(keyOf(id)),

    async find (id) {
      const found = await vault.get<SessionRecord>(keyOf(id))
      if (found?.rotated !== true) return found
      // The older key may be taken away: from now on the record does without it.
      await vault.replace(keyOf(id), found, found.content, found.content.session.expiresAt)
      return await vault.get(keyOf(id))
    },

    async create ({ issuedBy, session, claims: { sub }, loginAt }, tokens) {
      const record: SessionRecord = { issuedBy, session, sub, loginAt, tokens }
      await vault.set(keyOf(session.id), record, session.expiresAt, tagsOf(record))
    },

    replaceTokens: async (seen, session, tokens) =>
      await vault.replace(keyOf(session.id), seen, { ...seen.content, session, tokens }, session.expiresAt),

    remove: async (id) => await vault.remove(keyOf(id)),

    async * list (filter) {
      const { id } = filter
      if (id !== undefined) {
        const found = await vault.get<SessionRecord>(keyOf(id))
        if (found !== null && fits(found.content, filter)) yield found.content
        return
      }
      for await (const record of vault.list<SessionRecord>(tagFor(filter))) {
        if (fits(record, filter)) yield record
      }
    }
  }
}

function tagsOf ({ session: { provider, sid }, sub }: SessionRecord): EntryName[] {
  return [
    ['sessions', 'sub', sub],
    ['sessions', 'provider', provider],
    ...(sid === undefined ? [] : [['sessions', 'sid', sid] as const])
  ]
}

/** The one that the fewest sessions have. */
function tagFor ({ provider, sub, sid }: SessionFilter): EntryName {
  if (sid !== undefined) return ['sessions', 'sid', sid]
  if (sub !== undefined) return ['sessions', 'sub', sub]
  return ['sessions', 'provider', provider as string]
}

function fits ({ session, sub }: SessionRecord, filter: SessionFilter): boolean {
  const is = (wanted: string | undefined, value: string | undefined): boolean =>
    wanted === undefined || wanted === value
  return is(filter.provider, session.provider) && is(filter.sub, sub) && is(filter.sid, session.sid)
}
