import { callsOf } from './redis-client.ts'
import type { Call, RedisClient } from './redis-client.ts'

/**
 * Removes from a part of an index what has expired. `from` is a bound of ZRANGEBYLEX. Returns the bound of the next
 * part, or `undefined` at the end.
 */
export type Sweep = (tag: string, from: string) => Promise<string | undefined>

/** How long one call works, in milliseconds. The next call goes on where it has stopped. */
const WORK = 2000
/** How many names of the whole server one SCAN looks at. */
const SCAN_SIZE = '100'

/** Goes through all indexes: those whose names begin with `prefix`. Redis itself removes entries that expire. */
export function createPurge (client: RedisClient, prefix: string, sweep: Sweep): () => Promise<number> {
  let steps: AsyncGenerator<void> | undefined

  async function * allSteps (): AsyncGenerator<void> {
    try {
      for (const call of callsOf(client)) {
        for await (const tags of tagsOn(call)) yield * sweepAll(tags)
      }
    } finally {
      steps = undefined
    }
  }

  async function * tagsOn (call: Call): AsyncGenerator<string[]> {
    const start = `${client.options?.keyPrefix ?? ''}${prefix}`
    const pattern = `${start.replace(/[*?[\]\\]/g, '\\$&')}*`
    let cursor = '0'
    do {
      const [next, names] = await call('SCAN', cursor, 'MATCH', pattern, 'COUNT', SCAN_SIZE) as [string, string[]]
      yield names.map((name) => name.slice(start.length))
      cursor = next
    } while (cursor !== '0')
  }

  async function * sweepAll (tags: string[]): AsyncGenerator<void> {
    let parts = tags.map((tag) => ({ tag, from: '-' }))
    do {
      const next = await Promise.all(parts.map(async ({ tag, from }) => {
        return { tag, from: await sweep(tag, from).catch(skipOthers) }
      }))
      parts = next.filter((part): part is { tag: string, from: string } => part.from !== undefined)
      yield
    } while (parts.length > 0)
  }

  return async () => {
    const end = performance.now() + WORK
    const own = steps ??= allSteps()
    while (performance.now() < end && (await own.next()).done !== true);
    return 0
  }
}

/** Another application, whose prefix begins with this one, may have a key with such a name that is no index. */
function skipOthers (error: Error): undefined {
  if (!error.message.startsWith('WRONGTYPE')) throw error
}
