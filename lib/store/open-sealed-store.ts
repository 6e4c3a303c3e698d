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
const UPKEEP_INTERVAL = 600_000

/** Opens the store of the options, if there is one. Looks after it regularly, and closes it with the application. */
export async function openSealedStore (
  app: FastifyInstance,
  { store, baseUrl, prefix, session: { formerName } }: Settings,
  sealer: Sealer,
  measure?: MeasureCall
): Promise<SealedStore | undefined> {
  if (store === undefined) return undefined
  const opened = measureStore(await openStore(store), measure)
  const sealedStore = createSealedStore(opened, sealer, [baseUrl, prefix, formerName])
  const upkeep = createUpkeep(app.log, sealedStore)
  const warned = upkeep.warn()
  const timer = setInterval(() => {
    upkeep.warn()
    upkeep.purge()
  }, UPKEEP_INTERVAL).unref()
  app.addHook('onClose', async () => {
    clearInterval(timer)
    await warned
    // A store that the application has opened is closed by the application.
    if (typeof store === 'string') await sealedStore.close()
  })
  return sealedStore
}

/** The work that no request waits for. Its failures are logged, not thrown. */
function createUpkeep (log: FastifyBaseLogger, store: SealedStore) {
  let told: string[] = []

  async function warn (): Promise<void> {
    const warnings = await store.warnings()
    for (const warning of warnings) if (!told.includes(warning)) log.warn(warning)
    told = warnings
  }

  async function purge (): Promise<void> {
    const { removed, left } = await store.purge()
    if (left !== 0) log.warn({ removed, left }, 'the store could not be purged in time: expired entries are left')
  }

  const logged = (work: () => Promise<void>, failure: string) => async () => {
    await work().catch((error: OidcError) => log.warn(reasonOf(error), failure))
  }

  return {
    warn: logged(warn, 'the store could not be examined'),
    purge: logged(purge, 'the store could not be purged')
  }
}
