export function isRecord (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * Whether a value is an object as it is written in a program: its members are its own, and not those of a class, of a
 * `Map` or of another object. An object of another realm counts as well.
 */
export function isPlainRecord (value: unknown): value is Record<string, unknown> {
  if (!isRecord(value)) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

/** No claim needs as many levels, and code that calls itself for each level must not overflow. */
const MAX_LEVELS = 100

/** Whether a value of JSON does not have too many levels of objects and arrays. */
export function hasFewLevels (value: unknown, levels = MAX_LEVELS): boolean {
  if (typeof value !== 'object' || value === null) return true
  return levels > 0 && Object.values(value).every((member) => hasFewLevels(member, levels - 1))
}

/** The JSON text of a value, or `undefined` when JSON cannot contain it. */
export function toJsonText (value: unknown): string | undefined {
  try {
    return JSON.stringify(value)
  } catch {
    return undefined
  }
}

/** The value of a JSON text, or `undefined` when it is not JSON. */
export function parseJson (text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}
