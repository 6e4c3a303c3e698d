import { setTimeout as delay } from 'node:timers/promises'
import { now } from './util/time.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { Provider } from './provider/provider.ts'
import type { Providers } from './provider/providers.ts'
import type { SealedStore } from './store/sealed-store.ts'
import type { Health, Oidc, ProviderHealth, StoreHealth } from '../types/fastify.ts'

/** How long an answer may take, in milliseconds. */
const DEADLINE = 2000
/** How long an answer is used, in milliseconds: probes must not load the store and the providers. */
const MAX_AGE = 1000
/** The entry that shows whether the store can be written. */
const ENTRY = ['health'] as const
/** When it expires, in seconds. */
const ENTRY_LIFETIME = 60

/** The health of a provider that has not answered before the deadline. */
const NO_ANSWER: ProviderHealth = { status: 'unavailable', code: 'FST_OIDC_PROVIDER_UNAVAILABLE' }

/** The marks of logouts are all that ends a session in cookies. */
const MARKS_ARE_VOLATILE = 'The store keeps nothing on disk. When it restarts, the marks of logouts are lost, and the ' +
  'sessions in cookies that they ended go on. Let it write to disk, or set session.store.'

type HealthStore = Pick<SealedStore, 'has' | 'set' | 'isDurable'>

export interface HealthParts {
  log: FastifyBaseLogger
  providers: Pick<Providers, 'all'>
  store: HealthStore | undefined
  /** The sessions, when they are in the store. */
  records: object | undefined
}

/** `app.oidc.health()`: whether this process can serve users. */
export function createHealth ({ log, providers, store, records }: HealthParts): Oidc['health'] {
  let asked: { at: number, answer: Promise<Health> } | undefined
  let isLogged = false

  async function storeWarnings (): Promise<string[]> {
    if (store === undefined || records !== undefined) return []
    if (await store.isDurable().catch(() => undefined) !== false) return []
    if (!isLogged) log.warn(MARKS_ARE_VOLATILE)
    isLogged = true
    return [MARKS_ARE_VOLATILE]
  }

  async function ask (): Promise<Health> {
    const deadline = delay(DEADLINE, undefined, { ref: false })
    const [ofProviders, ofStore, warnings] = await Promise.all([
      Promise.all(providers.all().map(async (provider) => [provider.name, await providerHealth(provider, deadline)])),
      store === undefined ? undefined : storeHealth(store, deadline),
      before(deadline, storeWarnings(), [])
    ])
    const byName: Record<string, ProviderHealth> = Object.fromEntries(ofProviders)
    const status = statusOf(Object.values(byName), ofStore)
    return {
      status,
      providers: byName,
      ...(ofStore !== undefined && { store: ofStore }),
      ...(warnings.length > 0 && { warnings })
    }
  }

  return async () => {
    const age = asked === undefined ? Infinity : Date.now() - asked.at
    if (asked === undefined || age < 0 || age >= MAX_AGE) asked = { at: Date.now(), answer: ask() }
    return await asked.answer
  }
}

function statusOf (providers: ProviderHealth[], store: StoreHealth | undefined): Health['status'] {
  if (store?.status === 'unavailable') return 'unavailable'
  return [...providers, ...(store === undefined ? [] : [store])].every(({ status }) => status === 'ok')
    ? 'ok'
    : 'degraded'
}

async function providerHealth (provider: Provider, deadline: Promise<void>): Promise<ProviderHealth> {
  return await before(deadline, provider.health(), NO_ANSWER)
}

async function storeHealth (store: HealthStore, deadline: Promise<void>): Promise<StoreHealth> {
  const works = async (call: Promise<unknown>): Promise<boolean> =>
    await before(deadline, call.then(() => true, () => false), false)
  if (!await works(store.has(ENTRY))) return { status: 'unavailable' }
  return { status: await works(store.set(ENTRY, true, now() + ENTRY_LIFETIME)) ? 'ok' : 'readonly' }
}

/** The result, or `otherwise` if it takes too long. */
async function before<T> (deadline: Promise<void>, result: Promise<T>, otherwise: T): Promise<T> {
  return await Promise.race([result, deadline.then(() => otherwise)])
}
