import type { MeasureCall } from '../telemetry.ts'
import type { Store } from '../../types/store.ts'

/** What requests wait for. */
const MEASURED: ReadonlySet<string | symbol> = new Set<keyof Store>([
  'get', 'has', 'set', 'create', 'replace', 'take', 'list'
])

/** A store whose calls are measured. Without `measure`, it is the store itself. */
export function measureStore (store: Store, measure: MeasureCall | undefined): Store {
  if (measure === undefined) return store
  return new Proxy(store, {
    get (target, name) {
      const member: unknown = Reflect.get(target, name)
      if (typeof member !== 'function') return member
      const call = member.bind(target) as (...parameters: unknown[]) => Promise<unknown>
      if (!MEASURED.has(name)) return call
      return async (...parameters: unknown[]) => await measure(name as string, async () => await call(...parameters))
    }
  })
}
