import { reasonOf } from '../errors.ts'
import { measureStore } from './measured-store.ts'
import { openStore } from './open.ts'
import { createSealedStore } from './sealed-store.ts'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { OidcError } from '../errors.ts'
import type { Settings } from '../options/settings.ts'
import type { Sealer } from '../sealer.ts'
import type { MeasureCall } from '../telemetry.ts'
import type { SealedStore } from './sealed-store.ts'

/** How often expired entries are removed, in milliseconds. */
const PURGE_INTERVAL = 600_000

/** Opens the store of the options, if there is one. Purges it regularly, and closes it with the application. */
export async function openSealedStore (
  app: FastifyInstance,
  { store, baseUrl, prefix, session: { formerName } }: Settings,
  sealer: Sealer,
  measure?: MeasureCall
): Promise<SealedStore | undefined> {
  if (store === undefined) return undefined
  const opened = measureStore(await openStore(store), measure)
  const sealedStore = createSealedStore(opened, sealer, [baseUrl, prefix, formerName])
  const timer = setInterval(() => {
    purge(app.log, sealedStore).catch((error: OidcError) => {
      app.log.warn(reasonOf(error), 'the store could not be purged')
    })
  }, PURGE_INTERVAL).unref()
  app.addHook('onClose', async () => {
    clearInterval(timer)
    // A store that the application has opened is closed by the application.
    if (typeof store === 'string') await sealedStore.close()
  })
  return sealedStore
}

async function purge (log: FastifyBaseLogger, store: SealedStore): Promise<void> {
  const { removed, left } = await store.purge()
  if (left !== 0) log.warn({ removed, left }, 'the store could not be purged in time: expired entries are left')
}
