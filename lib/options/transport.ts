import { isRecord } from '../util/json.ts'
import { check, func, number, optional } from './check.ts'
import type { Dispatcher, Fetch, ProviderOptions } from '../../types/options.ts'

/** How the application calls providers and trusted issuers. */
export interface TransportSettings {
  fetch: Fetch | undefined
  dispatcher: Dispatcher | undefined
  /** In seconds. */
  timeout: number
  maxResponseBytes: number
}

const MIB = 1_048_576

/** Throws FST_OIDC_OPTION. */
export function parseTransport (
  options: Pick<ProviderOptions, 'fetch' | 'dispatcher' | 'timeout' | 'maxResponseBytes'>
): TransportSettings {
  return {
    fetch: func(options.fetch, 'fetch'),
    dispatcher: optional(options.dispatcher, 'dispatcher', parseDispatcher),
    timeout: number(options.timeout, 5, 'timeout', [0.001, 120]),
    maxResponseBytes: number(options.maxResponseBytes, MIB, 'maxResponseBytes', [1024, 64 * MIB])
  }
}

function parseDispatcher (value: unknown): Dispatcher {
  check(isRecord(value) && typeof value['dispatch'] === 'function', '"dispatcher" must be an undici dispatcher')
  return value as unknown as Dispatcher
}
