import { limited } from '../util/at-most.ts'
import { isRecord } from '../util/json.ts'
import { check, checkSet, optional } from './check.ts'
import type { ClientKey, Rotatable } from '../../types/options.ts'

/**
 * Makes a function that returns the current value. If the application gave a function, it is called each time,
 * and its result is checked like a value. It may take `timeout` seconds.
 */
export function rotatable<V, T> (
  value: Rotatable<V> | undefined,
  key: string,
  parse: (value: unknown, key: string) => T,
  timeout: number
): () => Promise<T> {
  if (typeof value === 'function') {
    const load = limited(value as () => V | Promise<V>, timeout, 'timeout')
    return async () => parse(await load(), key)
  }
  optional(value, key, parse)
  return async () => parse(value, key)
}

export function privateKey (value: unknown, key: string): ClientKey {
  checkSet(value, key)
  check(isPrivateKey(value), `"${key}" must be a private key: a JWK, a PEM text or a KeyObject`)
  return value
}

function isPrivateKey (value: unknown): value is ClientKey {
  if (typeof value === 'string') return value.includes('PRIVATE KEY')
  return isRecord(value) && ('kty' in value ? 'd' in value : value['type'] === 'private')
}

export function privateKeys (value: unknown, key: string): ClientKey[] {
  const keys = [value].flat()
  check(keys.length > 0 && keys.length <= 10, `"${key}" must be 1 to 10 keys`)
  return keys.map((entry) => privateKey(entry, key))
}
