import { check } from '../options/check.ts'
import type { Store } from '../../types/store.ts'

/** Each loads its file only when it is needed. */
const OPENERS: Record<string, (url: string) => Promise<Store>> = {
  memory: async () => (await import('./memory.ts')).createMemoryStore(),
  sqlite: async (url) => await (await import('./sqlite.ts')).createSqliteStore({ path: url.slice('sqlite:'.length) }),
  postgres: openPostgres,
  postgresql: openPostgres,
  redis: openRedis,
  rediss: openRedis
}

async function openPostgres (url: string): Promise<Store> {
  return await (await import('./postgres.ts')).createPostgresStore({ url })
}

async function openRedis (url: string): Promise<Store> {
  return await (await import('./redis.ts')).createRedisStore({ url })
}

/** Opens the store at an address. Returns a Store unchanged. Throws FST_OIDC_OPTION. */
export async function openStore (store: Store | string): Promise<Store> {
  if (typeof store !== 'string') return store
  const open = OPENERS[store.split(':', 1)[0] as string]
  check(open !== undefined, '"store" must be a Store, or begin with memory:, sqlite:, postgres: or redis:')
  return await open(store)
}
