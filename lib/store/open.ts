import { check } from '../options/check.ts'
import { createMemoryStore } from './memory.ts'
import { createPostgresStore } from './postgres.ts'
import { createRedisStore } from './redis.ts'
import { createSqliteStore } from './sqlite.ts'
import type { Store } from '../../types/store.ts'

const OPENERS: Record<string, (url: string) => Promise<Store>> = {
  memory: async () => createMemoryStore(),
  sqlite: async (url) => await createSqliteStore({ path: url.slice('sqlite:'.length) }),
  postgres: async (url) => await createPostgresStore({ url }),
  postgresql: async (url) => await createPostgresStore({ url }),
  redis: async (url) => await createRedisStore({ url }),
  rediss: async (url) => await createRedisStore({ url })
}

/** Opens the store at an address. Returns a Store unchanged. Throws FST_OIDC_OPTION. */
export async function openStore (store: Store | string): Promise<Store> {
  if (typeof store !== 'string') return store
  const open = OPENERS[store.split(':', 1)[0] as string]
  check(open !== undefined, '"store" must be a Store, or begin with memory:, sqlite:, postgres: or redis:')
  return await open(store)
}
