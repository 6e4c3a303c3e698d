import { Redis } from 'ioredis'
import t from 'tap'
import { createClusterStore } from '../../lib/store/redis-cluster.ts'
import type { RedisClient } from '../../lib/store/redis-client.ts'

t.test('9 purge goes on beside the entries of an application whose prefix begins with the own one', async (t) => {
  const redis = new Redis('redis://127.0.0.1:6379')
  const prefix = `red-${process.pid}`
  t.teardown(async () => {
    await redis.del(`${prefix}:tag:entry:key`, `${prefix}:tag:tag:sub`)
    redis.disconnect()
  })
  const own = createClusterStore(redis as unknown as RedisClient, prefix)
  const other = createClusterStore(redis as unknown as RedisClient, `${prefix}:tag`)
  await other.set('key', 'value', { expiresAt: Math.floor(Date.now() / 1000) + 60, tags: ['sub'] })
  await t.resolves(own.purge())
  t.same(await other.list('sub'), [{ key: 'key', value: 'value' }])
})
