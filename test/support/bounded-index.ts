import { now } from '../../lib/util/time.ts'
import { stopClock } from './app.ts'
import type { Test } from 'tap'
import type { Store } from '../../index.ts'

/** After expiry and purge, a store has no more index than entries. `count` counts the pairs of a tag and an entry. */
export async function checkIndex (t: Test, store: Store, count?: () => Promise<number>): Promise<void> {
  const clock = stopClock(t)
  const [soon, later] = [{ expiresAt: now() + 10 }, { expiresAt: now() + 3600 }]
  for (let index = 0; index < 120; index++) {
    await store.set(`short-${index}`, 'x', { ...soon, tags: ['all', `own-${index % 40}`] })
  }
  for (let index = 0; index < 5; index++) await store.set(`long-${index}`, 'x', { ...later, tags: ['all'] })
  await store.set('long-0', 'y', { ...later, tags: ['all', 'second'] })
  await store.set('long-1', 'y', later)
  t.equal(await store.take('long-2'), 'x')
  t.equal(await store.replace('long-3', 'x', 'y', later.expiresAt + 60), true)
  t.equal(await store.create('long-4', 'y', { ...later, tags: ['second'] }), false)
  await store.set('over', 'x', { expiresAt: now() - 1, tags: ['all', 'of-no-other'] })
  clock.advance(11)
  await store.purge()
  const [all, second] = await Promise.all([store.list('all'), store.list('second')])
  t.same([all, second].map((entries) => entries.map(({ key }) => key)), [['long-0', 'long-3', 'long-4'], ['long-0']])
  if (count !== undefined) t.equal(await count(), all.length + second.length)
}
