import { proxyEnv } from './connections.ts'
import type { Dispatcher, Fetch } from '../../types/options.ts'

/** What `fetch` is before the application replaces it. */
const INITIAL = fetchOfNode()

/** The global `fetch`, as it is when it is called. */
export const globalFetch: Fetch = (url, init) => fetch(url, init)

/**
 * Whether requests must go through the global `fetch`: it is another than that of Node.js (of a tool that mocks or
 * observes requests, of Bun or of Deno), or it has a dispatcher of the application and the plugin has none.
 */
export function isFetchChanged (dispatcher: Dispatcher | undefined, initial = INITIAL): boolean {
  return globalThis.fetch !== initial || (dispatcher === undefined && isDispatcherSet())
}

/** The global `fetch`, if it is that of Node.js. Bun, Deno and tools that were loaded earlier have another. */
export function fetchOfNode (): Fetch | null {
  return isOfNode(globalThis.fetch) ? globalThis.fetch : null
}

// Its beginning is the same in all versions of Node.js, and different in all wrappers. A version in which it is not
// counts as replaced: its fetch works as well.
function isOfNode (value: unknown): boolean {
  return String(value).startsWith('function fetch(input, init = undefined)')
}

/** Where undici 6 and 7, and undici 7 and 8, keep the dispatcher of the global `fetch`. */
const DISPATCHERS = [Symbol.for('undici.globalDispatcher.1'), Symbol.for('undici.globalDispatcher.2')]
let lastDefaults: unknown[] = []

/** Whether the application has set a dispatcher for the global `fetch`, such as a proxy or a mock. */
function isDispatcherSet (): boolean {
  const dispatchers = DISPATCHERS.map((name) => (globalThis as Record<symbol, unknown>)[name])
  if (dispatchers.every((dispatcher, index) => dispatcher === lastDefaults[index])) return false
  if (!dispatchers.every(isDefault)) return true
  lastDefaults = dispatchers
  return false
}

/** undici sets an agent without options when it is loaded: by Node.js at the first `fetch`, or by an import. */
function isDefault (dispatcher: unknown): boolean {
  if (dispatcher === undefined) return true
  const { constructor: { name, prototype }, dispatch } = dispatcher as DispatcherLike
  // undici 8 wraps its dispatcher for older versions.
  if (name === 'Dispatcher1Wrapper') return true
  // Node.js sets this one, for the same proxies that its agents use.
  if (name === 'EnvHttpProxyAgent') return proxyEnv() !== undefined
  return name === 'Agent' && dispatch === prototype.dispatch && hasNoOptions(dispatcher)
}

interface DispatcherLike {
  constructor: { name: string, prototype: { dispatch: unknown } }
  dispatch: unknown
}

function hasNoOptions (agent: unknown): boolean {
  const key = Object.getOwnPropertySymbols(agent).find(({ description }) => description === 'options')
  const options = key === undefined ? { unknown: true } : (agent as Record<symbol, object>)[key]
  return Object.values(options as object).every((value) => value === undefined || value === Infinity)
}
