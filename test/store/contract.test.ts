import t from 'tap'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { storeContract } from '../../lib/testing/index.ts'
import { now } from '../../lib/util/time.ts'
import { stopClock } from '../support/app.ts'
import { backends, indexSizes } from '../support/backends.ts'
import { checkIndex } from '../support/bounded-index.ts'

for (const [name, { skip, open }] of Object.entries(backends)) {
  t.test(name, { skip }, async (t) => {
    const names = storeContract(async () => createMemoryStore()).map(({ name }) => name)
    for (const name of names) {
      await t.test(name, async (t) => {
        const [test] = storeContract(async () => await open(t)).filter((test) => test.name === name)
        await test?.run()
        t.pass()
      })
    }

    await t.test('expiry is to the second, by the clock of the application', async (t) => {
      const clock = stopClock(t)
      const store = await open(t)
      await store.set('key', 'value', { expiresAt: now() + 10, tags: ['tag'] })
      clock.advance(9)
      t.equal(await store.get('key'), 'value')
      clock.advance(1)
      t.same([await store.get('key'), await store.list('tag'), await store.take('key')], [null, [], null])
      await store.close()
    })

    await t.test('no more index than entries after expiry and purge', async (t) => {
      const store = await open(t)
      await checkIndex(t, store, indexSizes.get(store))
      await store.close()
    })

    await t.test('a purge with a limit, again and again, removes all that has expired', async (t) => {
      const store = await open(t)
      for (let index = 0; index < 25; index++) await store.set(`key-${index}`, 'x', { expiresAt: now() - 1 })
      await store.set('key', 'value', { expiresAt: now() + 60 })
      for (let steps = 0; await store.purge({ limit: 10 }) >= 10;) t.ok(++steps < 3)
      t.equal(await store.countExpired?.(100) ?? 0, 0)
      t.equal(await store.get('key'), 'value')
      await store.close()
    })
  })
}
