import { oauthError } from '../provider/oauth-error.ts'
import { revokeInBackground } from '../provider/revoke.ts'
import { isEndedBy } from '../session/ended-sessions.ts'
import { isUnreadable } from '../store/sealed-store.ts'
import { CLOCK_TOLERANCE, now } from '../util/time.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { OidcError } from '../errors.ts'
import type { Providers } from '../provider/providers.ts'
import type { Revocation } from '../provider/revoke.ts'
import type { EndedSessions } from '../session/ended-sessions.ts'
import type { EntryName, SealedStore } from '../store/sealed-store.ts'
import type { GrantFilter, GrantRecord, GrantRecords } from './grant-records.ts'

/** Ends grants, and revokes their refresh tokens at the providers. The functions return how many grants they ended. */
export interface GrantEnd {
  end: (record: GrantRecord) => Promise<number>
  /** Also ends a grant whose record cannot be opened any more. */
  endById: (id: string) => Promise<number>
  /** The grants that match and did not begin after `at`, in milliseconds since the epoch. */
  endAll: (filter: GrantFilter, at: number) => Promise<number>
  /** All grants of a subject, also those that other requests are creating at this moment. */
  endSubject: (subject: string, filter: GrantFilter) => Promise<number>
  /** If a logout matches the grant, ends it and throws FST_OIDC_GRANT. */
  refuseEnded: (record: GrantRecord) => Promise<void>
  /** Revokes the refresh token of a grant that has ended already. */
  revoke: (record: GrantRecord) => void
}

export interface GrantEndParts {
  log: FastifyBaseLogger
  store: SealedStore
  records: GrantRecords
  providers: Providers
  endedSessions: EndedSessions
  /** The longest life of a grant, in seconds. */
  maxLifetime: number
}

export function createGrantEnd (parts: GrantEndParts): GrantEnd {
  const { log, store, records, providers, endedSessions, maxLifetime } = parts

  function revocationsOf ({ issuedBy, tokens }: GrantRecord): Revocation[] {
    const provider = providers.all().find(({ id }) => id === issuedBy)
    if (provider === undefined || tokens?.refresh_token === undefined) return []
    return [{ provider, token: tokens.refresh_token, hint: 'refresh_token' }]
  }

  function revoke (record: GrantRecord): void {
    revokeInBackground(log, revocationsOf(record))
  }

  async function end (record: GrantRecord): Promise<number> {
    if (!(await records.remove(record.id))) return 0
    revoke(record)
    return 1
  }

  async function endAll (filter: GrantFilter, at: number): Promise<number> {
    const revocations: Revocation[] = []
    let count = 0
    try {
      for await (const record of records.list(filter)) {
        if (!isEndedBy(at, record) || !(await records.remove(record.id))) continue
        count += 1
        revocations.push(...revocationsOf(record))
      }
    } finally {
      // Also if the store fails in between, because the removed grants cannot be found again.
      revokeInBackground(log, revocations)
    }
    return count
  }

  async function isEnded ({ id, provider, sid, claims, loginAt, subject }: GrantRecord): Promise<boolean> {
    const session = { session: { id, provider, ...(sid !== undefined && { sid }) }, claims, loginAt }
    return await endedSessions.isMarked(session) || (await store.max(markOf(subject))) >= loginAt
  }

  return {
    end,
    endAll,
    revoke,

    async endById (id) {
      const found = await records.find(id).catch((error: OidcError) => {
        if (!isUnreadable(error)) throw error
        return null
      })
      return found === null ? Number(await records.remove(id)) : await end(found.content)
    },

    async endSubject (subject, filter) {
      const at = await endedSessions.logoutTime()
      await store.raise(markOf(subject), at, now() + maxLifetime + CLOCK_TOLERANCE)
      return await endAll(filter, at)
    },

    async refuseEnded (record) {
      if (!(await isEnded(record))) return
      await end(record)
      throw oauthError('invalid_grant', 'The user was logged out.')
    }
  }
}

function markOf (subject: string): EntryName {
  return ['ended', 'grants', subject]
}
