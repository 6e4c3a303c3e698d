import { check, checkKeys, text } from '../options/check.ts'
import { reportEnd } from './logout.ts'
import { ALWAYS, markOf } from '../session/ended-sessions.ts'
import type { Core } from '../compose.ts'
import type { EndedSessions } from '../session/ended-sessions.ts'
import type { SessionFilter, SessionRecord, SessionRecords } from '../session/session-records.ts'
import type { EntryName } from '../store/sealed-store.ts'
import type { LogoutContext } from '../../types/options.ts'

/**
 * Ends the sessions that the filter names and that began until `at`, in milliseconds since the epoch, on
 * every process at once.
 * Returns those that were found: with sessions in cookies nobody knows them, and they end all the same.
 * Throws FST_OIDC_OPTION when the filter does not say which sessions.
 */
export async function endSessions (
  core: Core,
  filter: SessionFilter,
  reason: LogoutContext['reason'],
  at = Date.now()
): Promise<SessionRecord[]> {
  const { registry, records } = core
  // What was verified before the logout is verified again.
  core.bearer?.forget()
  if (filter.id === undefined) await endUntil(core, filter, at)
  else if (records === undefined) await endUnseen(registry, filter.id, filter)
  const ended = records === undefined ? [] : await endFound(registry, records, filter, at)
  await Promise.all(ended.map(async (record) => await reportEnd(core, null, record, reason)))
  return ended
}

async function endUntil (core: Core, filter: SessionFilter, at: number): Promise<void> {
  // A `sid` that was logged out does not come back: it is over whatever the clocks say.
  for (const name of marksFor(filter, providersOf(core, filter))) {
    await core.registry.mark(name, filter.sid === undefined ? at : ALWAYS)
  }
  // One session is not a grant: what has been given to applications ends with the person, or with the
  // provider's session.
  await core.broker?.endAll(filter, at)
}

async function endUnseen (registry: EndedSessions, id: string, { sub, sid, provider }: SessionFilter): Promise<void> {
  check((sub ?? sid ?? provider) === undefined, 'of sessions in cookies nothing but "id" is known')
  await registry.end(id)
}

function marksFor ({ sub, sid }: SessionFilter, providers: readonly string[]): EntryName[] {
  if (sid !== undefined) return providers.map((provider) => markOf.sid(provider, sid, sub))
  return providers.map((provider) => sub === undefined ? markOf.provider(provider) : markOf.sub(provider, sub))
}

/** A `sub` and a `sid` are somebody at one provider only. */
function providersOf ({ settings }: Core, { provider }: SessionFilter): readonly string[] {
  if (provider !== undefined) return [provider]
  check(settings.resolveProvider === undefined, 'with "resolveProvider", "provider" says whose sessions they are')
  return [...settings.providers.keys()]
}

async function endFound (
  registry: EndedSessions,
  records: SessionRecords,
  filter: SessionFilter,
  at: number
): Promise<SessionRecord[]> {
  const ended: SessionRecord[] = []
  for await (const record of records.list(filter)) {
    const isMeant = filter.sid !== undefined || filter.id !== undefined || record.loginAt <= at
    // Of several who end it, one tells the application.
    if (isMeant && await registry.end(record.session.id)) ended.push(record)
  }
  return ended
}

/**
 * A filter as the application gives it: what is undefined by mistake must not mean everybody. Throws
 * FST_OIDC_OPTION.
 */
export function parseSessionFilter (filter: SessionFilter): SessionFilter {
  checkKeys(filter, ['id', 'sid', 'sub', 'provider'], 'filter.')
  for (const [key, value] of Object.entries(filter)) text(value, `filter.${key}`)
  check(Object.keys(filter).length > 0, 'sessions are found by "sub", "sid", "id" or "provider"')
  return filter
}

/** Throws FST_OIDC_OPTION when the sessions are in cookies, where nobody can list them. */
export function recordsOf ({ records }: Core): SessionRecords {
  check(records !== undefined, 'only sessions in the store can be listed: set "store" and "session.store"')
  return records
}
