import { OidcError } from '../errors.ts'
import { createRecordIndex } from '../store/record-index.ts'
import type { Entry, EntryName, SealedStore } from '../store/sealed-store.ts'
import type { Session, SessionTokens } from './session.ts'
import type { OidcSession } from '../../types/claims.ts'
import type { SessionFilter as PublicFilter } from '../../types/fastify.ts'

/** A session in the store. */
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
  /**
   * Writes new tokens, unless another process has refreshed them since `seen` was read.
   * Throws FST_OIDC_LOGIN_REQUIRED when the session has ended.
   */
  replaceTokens: (seen: Entry<SessionRecord> | null, session: OidcSession, tokens: SessionTokens) => Promise<void>
  /** Returns whether there was a record. */
  remove: (id: string) => Promise<boolean>
  list: (filter: SessionFilter) => AsyncGenerator<SessionRecord>
}

/** As in `app.oidc.sessions`. Members that are `undefined` are ignored. */
export type SessionFilter = { [Key in keyof PublicFilter]: string | undefined }

const nameOf = (id: string): EntryName => ['session', id]

const index = createRecordIndex(
  'sessions',
  ['sid', 'sub', 'provider'],
  ({ session: { provider, sid }, sub }: SessionRecord) => ({ sid, sub, provider })
)

export function createSessionRecords (store: SealedStore): SessionRecords {
  async function find (id: string): Promise<Entry<SessionRecord> | null> {
    const entry = await store.get<SessionRecord>(nameOf(id))
    if (entry?.rotated !== true) return entry
    // Seals the record with the newest key, so that the older key can be removed.
    await store.replace(nameOf(id), entry, entry.content, entry.content.session.expiresAt)
    return await store.get(nameOf(id))
  }

  // The entry may have changed because another process has refreshed the tokens. Then its new tokens stay.
  // Or the same tokens were sealed again. Then they are replaced.
  async function replaceTokens (
    seen: Entry<SessionRecord> | null,
    session: OidcSession,
    tokens: SessionTokens
  ): Promise<void> {
    if (seen === null) throw new OidcError('FST_OIDC_LOGIN_REQUIRED', { detail: 'the session has ended in the meantime' })
    if (await store.replace(nameOf(session.id), seen, { ...seen.content, session, tokens }, session.expiresAt)) return
    const entry = await find(session.id)
    const isRefreshed = entry !== null && entry.content.tokens.access_token !== seen.content.tokens.access_token
    if (!isRefreshed) await replaceTokens(entry, session, tokens)
  }

  return {
    has: async (id) => await store.has(nameOf(id)),
    find,
    replaceTokens,

    async create ({ issuedBy, session, claims: { sub }, loginAt }, tokens) {
      const record: SessionRecord = { issuedBy, session, sub, loginAt, tokens }
      await store.set(nameOf(session.id), record, session.expiresAt, index.tagsOf(record))
    },

    remove: async (id) => await store.remove(nameOf(id)),

    async * list (filter) {
      const { id } = filter
      const records = id === undefined ? store.list<SessionRecord>(index.tagFor(filter)) : oneRecord(id)
      for await (const record of records) {
        if (index.fits(record, filter)) yield record
      }
    }
  }

  async function * oneRecord (id: string): AsyncGenerator<SessionRecord> {
    const entry = await store.get<SessionRecord>(nameOf(id))
    if (entry !== null) yield entry.content
  }
}
